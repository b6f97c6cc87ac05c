"""Euler's method on the probability flow (Karras et al. 2022, arXiv 2206.00364), as diffusers runs it."""

from collections.abc import Iterator

import numpy as np

from .levels import linspace_sigmas, unit_variance
from .sampler import Denoise, Draw, Sampler
from .schedule import Schedule


def euler(schedule: Schedule, steps: int) -> Sampler:
    """One model call a step, at timesteps with fractions; a one-step run starts at the smallest noise level."""
    timesteps, sigmas = linspace_sigmas(schedule, steps)

    def run(x: np.ndarray, denoise: Denoise, draw: Draw) -> Iterator[np.ndarray]:
        for timestep, sigma, sigma_next in zip(timesteps, sigmas, sigmas[1:], strict=False):
            x = x + (sigma_next - sigma) * denoise(unit_variance(x, sigma), timestep)
            yield x

    return Sampler(timesteps, sigmas[0], run)
