"""PLMS (pseudo linear multistep, Liu et al. 2022, arXiv 2202.09778), as the CompVis code under GlueGen runs it."""

from collections.abc import Iterator

import numpy as np

from .multistep import extrapolate
from .sampler import Denoise, Draw, Sampler
from .schedule import Schedule
from .spacing import compvis
from .transfer import transfer


def plms(schedule: Schedule, steps: int) -> Sampler:
    """One model call a step and one more in the first; 30 steps asked of 1000 are 31, ending at timestep 0's alpha.

    The first step averages the noise at its own and at the next timestep; only the former enters the history. Where
    there is no next timestep, a one-step run asks for its own again. Raises InputError for a count whose first
    timestep is past the schedule's end (3, 9, 27 or 300 of 1000, say).
    """
    timesteps = tuple(map(float, compvis(schedule, steps)))
    alphas = schedule.alphas_cumprod().tolist()
    visited = [alphas[int(timestep)] for timestep in timesteps]
    reached = [*visited[1:], alphas[0]]

    def run(x: np.ndarray, denoise: Denoise, draw: Draw) -> Iterator[np.ndarray]:
        history: list[np.ndarray] = []
        for timestep, alpha, alpha_next in zip(timesteps, visited, reached, strict=True):
            noise = denoise(x, timestep)
            if history:
                blend = extrapolate([*history, noise])
            else:
                ahead = transfer(x, noise, alpha, alpha_next)
                blend = (noise + denoise(ahead, timesteps[min(1, len(timesteps) - 1)])) / 2
            history = [*history[-2:], noise]
            x = transfer(x, blend, alpha, alpha_next)
            yield x

    return Sampler(timesteps, 1.0, run, extra_calls=1)
