"""How a bundle samples by default: the systems' samplers, the base's own, and whether they fit a count."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from x2i.models.errors import CheckpointError
from x2i.runtime.errors import InputError
from x2i.runtime.processes.latents import SamplerChoice
from x2i.runtime.samplers.schedule import Schedule

from .schedulers import FolderSampling, read_sampling

COMPVIS_SAMPLING = SamplerChoice("plms", 50, {"ddim": "ddim_compvis"})
"""The CompVis scripts' own samplers, which GlueGen's authors also run: their DDIM visits other timesteps."""
DIFFUSERS_SAMPLING = SamplerChoice("pndm", 50)
"""The sampler of diffusers' Stable Diffusion v1 folders, for a base that names none."""


def early_sampling(
    base: str | None, config: Path | None, changed: Callable[[dict[str, Any]], dict[str, Any]] = dict
) -> tuple[str, FolderSampling] | None:
    """Layout ("diffusers" or "compvis") and sampling of a base, as far as they are known before it is read; `changed`
    are its scheduler's settings as they are drawn with.

    Returns None for a hub name, for no base, and for a configuration that the base's reader will refuse. Raises
    PlanError for a scheduler that cannot be drawn.
    """
    # The readers of checkpoints import torch; folders of graphs are read without it.
    from x2i.models.stable_diffusion.base import stated_scheduler

    if base is None:
        return None
    try:
        found = stated_scheduler(base, config)
    except CheckpointError:
        # The reader of the base raises the same error, with the problems of all its files.
        return None
    return None if found is None else (found[0], read_sampling(changed(found[1]), f"{base}: scheduler"))


def count_problems(choice: SamplerChoice, schedule: Schedule | None) -> list[str]:
    """What is wrong with a bundle's default sampler and number of steps, one line each.

    Names are taken as the runtime takes them, aliases included. Without a schedule only the name and a count below 1
    are wrong: which of the other counts a sampler takes depends on the schedule.
    """
    steps = choice.steps if schedule is not None or choice.steps < 1 else 1
    try:
        choice.make(schedule or Schedule(), steps=steps)
    except InputError as error:
        return list(error.problems)
    return []
