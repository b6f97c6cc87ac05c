"""How a bundle samples by default: the systems' samplers, the base's schedule, and whether they fit a count."""

from dataclasses import asdict
from pathlib import Path

from x2i.models.errors import CheckpointError
from x2i.models.stable_diffusion.schedule_config import ScheduleConfig
from x2i.runtime.bundle.plan import SamplerChoice
from x2i.runtime.errors import InputError
from x2i.runtime.sampling.registry import make_sampler
from x2i.runtime.sampling.schedule import Schedule

COMPVIS_SAMPLING = SamplerChoice("plms", 50, {"ddim": "ddim_compvis"})
"""The CompVis scripts' own samplers, which GlueGen's authors also run: their DDIM visits other timesteps."""
DIFFUSERS_SAMPLING = SamplerChoice("pndm", 50)
"""The sampler of diffusers' Stable Diffusion v1 folders."""


def runtime_schedule(config: ScheduleConfig) -> Schedule:
    """The schedule that a checkpoint was trained with, as the runtime's record: the same fields of the same names."""
    return Schedule(**asdict(config))


def early_schedule(base: str | None, config: Path | None) -> tuple[str, Schedule] | None:
    """Layout ("diffusers" or "compvis") and schedule of a base, as far as they are known before it is read.

    Returns None for a hub name, for no base, and for a configuration that the base's reader will refuse.
    """
    # The readers of checkpoints import torch; folders of graphs are read without it.
    from x2i.models.stable_diffusion.base import stated_schedule

    if base is None:
        return None
    try:
        found = stated_schedule(base, config)
    except CheckpointError:
        # The reader of the base raises the same error, with the problems of all its files.
        return None
    return None if found is None else (found[0], runtime_schedule(found[1]))


def count_problems(choice: SamplerChoice, schedule: Schedule | None) -> list[str]:
    """What is wrong with a bundle's default sampler and number of steps, one line each.

    Names are taken as the runtime takes them, aliases included. Without a schedule only the name and a count below 1
    are wrong: which of the other counts a sampler takes depends on the schedule.
    """
    steps = choice.steps if schedule is not None or choice.steps < 1 else 1
    try:
        make_sampler(choice.aliases.get(choice.name, choice.name), schedule or Schedule(), steps)
    except InputError as error:
        return list(error.problems)
    return []
