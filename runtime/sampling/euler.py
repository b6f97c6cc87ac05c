"""Euler's method on the probability flow, plain and ancestral (Karras et al. 2022, arXiv 2206.00364), as diffusers
runs it."""

import math
from collections.abc import Iterator

import numpy as np

from .sampler import Denoise, Draw, Sampler
from .schedule import Schedule, linspace_sigmas, unit_variance


def euler(schedule: Schedule, steps: int) -> Sampler:
    """One model call a step, at timesteps with fractions; a one-step run starts at the smallest noise level."""
    timesteps, sigmas = linspace_sigmas(schedule, steps)

    def run(x: np.ndarray, denoise: Denoise, draw: Draw) -> Iterator[np.ndarray]:
        for timestep, sigma, sigma_next in zip(timesteps, sigmas, sigmas[1:], strict=False):
            x = x + (sigma_next - sigma) * denoise(unit_variance(x, sigma), timestep)
            yield x

    return Sampler(timesteps, sigmas[0], run)


def euler_a(schedule: Schedule, steps: int) -> Sampler:
    """One model call and one draw a step; a one-step run starts at the smallest noise level.

    The last draw has no weight; it is made so that a shared generator ends where diffusers leaves it.
    """
    timesteps, sigmas = linspace_sigmas(schedule, steps)

    def run(x: np.ndarray, denoise: Denoise, draw: Draw) -> Iterator[np.ndarray]:
        for timestep, sigma, sigma_next in zip(timesteps, sigmas, sigmas[1:], strict=False):
            down = sigma_next**2 / sigma
            fresh = math.sqrt(sigma_next**2 - down**2)
            x = x + (down - sigma) * denoise(unit_variance(x, sigma), timestep) + fresh * draw()
            yield x

    return Sampler(timesteps, sigmas[0], run)
