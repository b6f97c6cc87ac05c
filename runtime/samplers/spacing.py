"""Which training timesteps a run of n steps visits, from the noisiest down."""

from collections.abc import Callable

import numpy as np

from ..errors import InputError
from .schedule import Schedule

Ascending = Callable[[Schedule, int], range]


def leading(schedule: Schedule, steps: int) -> tuple[int, ...]:
    """Exactly `steps` timesteps at a whole stride, the first `steps_offset` (diffusers' "leading" spacing)."""
    return _descending(_leading, schedule, steps)


def compvis(schedule: Schedule, steps: int) -> tuple[int, ...]:
    """Every timestep at stride train_steps // steps, from 1: more of them than asked where the stride leaves a rest."""
    return _descending(_compvis, schedule, steps)


def linspace(schedule: Schedule, steps: int) -> tuple[float, ...]:
    """`steps` evenly spaced timesteps from the last to 0, with fractions; a single step is timestep 0 (diffusers)."""
    timesteps = np.linspace(0, schedule.train_steps - 1, steps, dtype=np.float32)
    return tuple(timesteps[::-1].tolist())


def _leading(schedule: Schedule, steps: int) -> range:
    stride = schedule.train_steps // steps
    return range(schedule.steps_offset, schedule.steps_offset + steps * stride, stride)


def _compvis(schedule: Schedule, steps: int) -> range:
    return range(1, schedule.train_steps + 1, schedule.train_steps // steps)


def _descending(ascending: Ascending, schedule: Schedule, steps: int) -> tuple[int, ...]:
    """Refuses a count that would step past the end of the schedule, where the originals fail with an index error."""
    last = schedule.train_steps - 1
    timesteps = ascending(schedule, steps)
    if timesteps[-1] > last:
        works = [count for count in range(1, schedule.train_steps) if ascending(schedule, count)[-1] <= last]
        nearest = min(works, key=lambda count: abs(count - steps))
        raise InputError(
            f"steps: expected a count whose timesteps end at {last} or before for this sampler, "
            f"got {steps}, which starts at {timesteps[-1]}; the nearest count that works is {nearest}"
        )
    return tuple(reversed(timesteps))
