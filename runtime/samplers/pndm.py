"""PNDM without its Runge-Kutta start (Liu et al. 2022, arXiv 2202.09778), as diffusers runs it for Stable Diffusion."""

from collections.abc import Iterator

import numpy as np

from .levels import alpha_at, alphas_cumprod
from .multistep import extrapolate
from .sampler import Denoise, Draw, Sampler
from .schedule import Schedule
from .spacing import leading
from .transfer import transfer


def pndm(schedule: Schedule, steps: int) -> Sampler:
    """`steps` + 1 steps of one model call each, as the second timestep comes twice; a one-step run is one step.

    The first visit of the second timestep redoes the first step with the mean of both predictions and leaves no
    trace in the history. Raises InputError for a count whose first timestep is past the schedule's end.
    """
    distinct = leading(schedule, steps)
    timesteps = (*distinct[:2], *distinct[1:])
    stride = schedule.train_steps // steps
    alphas = alphas_cumprod(schedule).tolist()

    def run(x: np.ndarray, denoise: Denoise, draw: Draw) -> Iterator[np.ndarray]:
        start = x
        history: list[np.ndarray] = []
        for index, timestep in enumerate(timesteps):
            noise = denoise(x, float(timestep))
            if index == 1:
                x = transfer(start, (noise + history[0]) / 2, alphas[timesteps[0]], alphas[timestep])
            else:
                history = [*history[-3:], noise]
                x = transfer(x, extrapolate(history), alphas[timestep], alpha_at(schedule, alphas, timestep - stride))
            yield x

    return Sampler(tuple(map(float, timesteps)), 1.0, run)
