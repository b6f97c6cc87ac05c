"""DDIM without added noise (eta 0; Song et al. 2020, arXiv 2010.02502), as diffusers and as the CompVis code run it."""

from collections.abc import Iterator, Sequence

import numpy as np

from .sampler import Denoise, Draw, Sampler
from .schedule import Schedule, alpha_at, alphas_cumprod, compvis, leading, transfer


def ddim(schedule: Schedule, steps: int) -> Sampler:
    """One model call a step. Raises InputError for a count whose first timestep is past the schedule's end."""
    timesteps = leading(schedule, steps)
    stride = schedule.train_steps // steps
    alphas = alphas_cumprod(schedule).tolist()
    return along(
        timesteps,
        [alphas[timestep] for timestep in timesteps],
        [alpha_at(schedule, alphas, timestep - stride) for timestep in timesteps],
    )


def along(timesteps: Sequence[int], alphas: Sequence[float], alphas_next: Sequence[float]) -> Sampler:
    """DDIM over given timesteps: their cumulative alphas, and the one that each step leads to."""

    def run(x: np.ndarray, denoise: Denoise, draw: Draw) -> Iterator[np.ndarray]:
        for timestep, alpha, alpha_next in zip(timesteps, alphas, alphas_next, strict=True):
            x = transfer(x, denoise(x, float(timestep)), alpha, alpha_next)
            yield x

    return Sampler(tuple(map(float, timesteps)), 1.0, run)


def ddim_compvis(schedule: Schedule, steps: int) -> Sampler:
    """One model call a step; 30 steps asked of 1000 are 31. The last step ends at the alpha of timestep 0, never at 1.

    Raises InputError for a count whose first timestep is past the schedule's end (3, 9, 27 or 300 of 1000, say).
    """
    timesteps = compvis(schedule, steps)
    alphas = schedule.alphas_cumprod().tolist()
    visited = [alphas[timestep] for timestep in timesteps]
    return along(timesteps, visited, [*visited[1:], alphas[0]])
