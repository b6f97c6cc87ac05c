"""The noise levels of diffusers' Euler sampler on Stable Diffusion's schedule, for stacks that take them as numbers."""

import numpy as np

BETAS = 0.00085, 0.012, 1000


def euler_sigmas(steps: int) -> list[float]:
    """`steps` levels at evenly spaced timesteps from the noisiest down, and 0 behind them."""
    first, last, count = BETAS
    betas = np.linspace(first**0.5, last**0.5, count, dtype=np.float64) ** 2
    alphas = np.cumprod(1 - betas)
    sigmas = ((1 - alphas) / alphas) ** 0.5
    timesteps = np.linspace(0, count - 1, steps)[::-1]
    return [*np.interp(timesteps, np.arange(count), sigmas).tolist(), 0.0]
