"""Few steps: which scheduler a distilled base is drawn with, and in how many steps."""

from collections.abc import Mapping
from typing import Any

from x2i.runtime.processes.guidance import Guidance
from x2i.runtime.processes.latents import SamplerChoice

from ..errors import PlanError
from .schedulers import FolderSampling

FEW_STEPS: dict[str, str | None] = {"lcm": "LCMScheduler", "tcd": "TCDScheduler", "own": None}
"""What a base may be distilled for, and the class of diffusers' scheduler that draws it; `own` is the base's."""
STEPS = 4
WITHOUT = Guidance(1.0)
"""Distilled networks have their guidance built in."""
EMBEDDED = Guidance(8.5, "embedded")
"""Those that read its scale have this one in diffusers' LatentConsistencyModelPipeline."""


def few_step_scheduler(settings: Mapping[str, Any], kind: str, has_lora: bool, source: str) -> dict[str, Any]:
    """The scheduler's settings with which a distilled base is drawn.

    They are the base's own where its scheduler is of the wanted class, and where its timesteps trail, as those of
    distilled folders do (SD-Turbo), unless the base is made a student by a LoRA. Else they are the base's under the
    wanted class, as diffusers' `from_config` makes them. Raises PlanError for a kind that is not known, and for `own`
    where the base names no scheduler.
    """
    if kind not in FEW_STEPS:
        raise PlanError(f"--few-step: expected one of {', '.join(FEW_STEPS)}, got {kind!r:.60}")
    named, wanted = settings.get("_class_name"), FEW_STEPS[kind]
    if wanted is None and named is None:
        raise PlanError(f"--few-step own: expected a base that names its scheduler, got none in {source}; choose lcm")
    trails = not has_lora and settings.get("timestep_spacing") == "trailing"
    if wanted is None or named == wanted or (trails and named is not None):
        return dict(settings)
    return {**settings, "_class_name": wanted}


def few_step_note(settings: Mapping[str, Any], kind: str) -> str:
    """What the user is told of the scheduler that was taken."""
    spacing = settings.get("timestep_spacing", "leading")
    return f"--few-step {kind}: drawn with {settings['_class_name']}, its timesteps {spacing}"


def few_step_sampling(sampling: FolderSampling) -> SamplerChoice:
    """The sampler of a distilled base, with its usual number of steps."""
    own = sampling.sampler
    assert own is not None, "few steps without a scheduler"
    return SamplerChoice(own.name, min(STEPS, own.steps), settings=own.settings)


def few_step_guidance(embeds: bool) -> Guidance:
    """The guidance of a distilled base, which `embeds` its scale or has one built in."""
    return EMBEDDED if embeds else WITHOUT
