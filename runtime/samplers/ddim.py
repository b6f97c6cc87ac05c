"""DDIM without added noise (eta 0), as diffusers runs it (Song et al. 2020, arXiv 2010.02502)."""

from collections.abc import Iterator, Sequence

import numpy as np

from .levels import alpha_at, alphas_cumprod
from .sampler import Denoise, Draw, Sampler
from .schedule import Schedule
from .spacing import leading
from .transfer import transfer


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
