"""All samplers by name."""

from collections.abc import Callable
from numbers import Integral

from ..errors import InputError
from .ddim import ddim, ddim_compvis
from .dpmpp import dpmpp_2m_karras
from .euler import euler, euler_a
from .lcm import lcm
from .multistep import lms, plms, pndm
from .sampler import Sampler
from .schedule import Schedule

SAMPLERS: dict[str, Callable[[Schedule, int], Sampler]] = {
    "plms": plms,
    "ddim_compvis": ddim_compvis,
    "ddim": ddim,
    "pndm": pndm,
    "lms": lms,
    "euler": euler,
    "euler_a": euler_a,
    "dpmpp_2m_karras": dpmpp_2m_karras,
    "lcm": lcm,
}


def make_sampler(name: str, schedule: Schedule, steps: int) -> Sampler:
    """The sampler `name`, set up for `steps` steps.

    Raises InputError for an unknown name, for a count that is no whole number from 1 to the schedule's training
    steps, and for the few counts that the chosen sampler cannot do.
    """
    problems = []
    if not isinstance(name, str) or name not in SAMPLERS:
        names = ", ".join(SAMPLERS)
        problems.append(f"sampler: expected one of {names}, got {name!r}; use one of these names")
    if isinstance(steps, bool) or not isinstance(steps, Integral) or not 1 <= steps <= schedule.train_steps:
        allowed = f"a whole number from 1 to {schedule.train_steps}"
        problems.append(f"steps: expected {allowed}, got {steps!r}; choose a count in that range")
    if problems:
        raise InputError(*problems)
    return SAMPLERS[name](schedule, int(steps))
