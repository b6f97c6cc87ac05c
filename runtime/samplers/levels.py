"""Noise levels in the single-precision arithmetic of diffusers' schedulers.

Its rounding is followed, not improved: samplers that look a timestep up from a noise level and round it would
otherwise show the UNet a neighbouring timestep at some step counts.
"""

import math

import numpy as np

from .schedule import Schedule
from .spacing import linspace


def alphas_cumprod(schedule: Schedule) -> np.ndarray:
    """Signal share of the variance after each training step: float32 [train_steps].

    Differs from `Schedule.alphas_cumprod` by about 1e-6 of its value: betas and alphas are float32 here.
    """
    start, end = np.float32(schedule.beta_start**0.5), np.float32(schedule.beta_end**0.5)
    stride = np.float64((end - start) / np.float32(schedule.train_steps - 1))
    index = np.arange(schedule.train_steps, dtype=np.float64)
    # Counted from the nearer end, one rounding per value: torch's linspace on processors with fused multiply-add.
    first_half = index < schedule.train_steps // 2
    roots = np.where(first_half, start + stride * index, end - stride * (schedule.train_steps - 1 - index))
    alphas = np.float32(1) - roots.astype(np.float32) ** 2
    return np.cumprod(alphas, dtype=np.float64).astype(np.float32)


def alpha_at(schedule: Schedule, alphas: list[float], timestep: int) -> float:
    """Cumulative alpha of a timestep; below 0 stands for the end of the run."""
    if timestep >= 0:
        return alphas[timestep]
    return 1.0 if schedule.set_alpha_to_one else alphas[0]


def training_sigmas(schedule: Schedule) -> np.ndarray:
    """Noise per unit of signal (standard deviations) after each training step: float32 [train_steps], ascending."""
    alphas = alphas_cumprod(schedule)
    return np.sqrt((1 - alphas) / alphas)


def linspace_sigmas(schedule: Schedule, steps: int) -> tuple[tuple[float, ...], list[float]]:
    """Timesteps [steps] of the Euler and LMS samplers and their sigmas [steps + 1], which end with 0."""
    timesteps = linspace(schedule, steps)
    sigmas = np.interp(timesteps, np.arange(schedule.train_steps), training_sigmas(schedule))
    return timesteps, [*sigmas.astype(np.float32).tolist(), 0.0]


def karras_sigmas(schedule: Schedule, steps: int, rho: float = 7.0) -> tuple[tuple[float, ...], list[float]]:
    """Sigmas [steps + 1] evenly spaced in sigma^(1/rho), then 0, and the nearest whole timesteps [steps].

    Source: Karras et al. 2022, arXiv 2206.00364, equation 5. Small noise levels lie dense: from
    some 50 steps on, the last timesteps repeat.
    """
    trained = training_sigmas(schedule)
    low, high = float(trained[0]) ** (1 / rho), float(trained[-1]) ** (1 / rho)
    sigmas = (high + np.linspace(0, 1, steps) * (low - high)) ** rho
    timesteps = np.interp(np.log(sigmas), np.log(trained), np.arange(schedule.train_steps)).round()
    return tuple(timesteps.tolist()), [*sigmas.astype(np.float32).tolist(), 0.0]


def unit_variance(x: np.ndarray, sigma: float) -> np.ndarray:
    """Latents of variance 1 + sigma^2 scaled to the variance 1 that the UNet was trained on."""
    return x / math.sqrt(sigma**2 + 1)
