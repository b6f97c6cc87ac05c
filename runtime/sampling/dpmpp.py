"""DPM-Solver++ 2M (Lu et al. 2022, arXiv 2211.01095) over Karras noise levels, as diffusers runs it."""

import math
from collections.abc import Iterator

import numpy as np

from .sampler import Denoise, Draw, Sampler
from .schedule import Schedule, karras_sigmas, pred_x0


def dpmpp_2m_karras(schedule: Schedule, steps: int) -> Sampler:
    """One model call a step, at whole timesteps; the first and the last step are of first order (midpoint between)."""
    timesteps, sigmas = karras_sigmas(schedule, steps)

    def run(x: np.ndarray, denoise: Denoise, draw: Draw) -> Iterator[np.ndarray]:
        before: np.ndarray | None = None
        for index, timestep in enumerate(timesteps):
            sigma, sigma_next = sigmas[index], sigmas[index + 1]
            clean = target = pred_x0(x, denoise(x, timestep), alpha=1 / (sigma**2 + 1))
            if before is not None and sigma_next > 0:
                ratio = math.log(sigma / sigma_next) / math.log(sigmas[index - 1] / sigma)
                target = clean + ratio / 2 * (clean - before)
            shrink = sigma_next / sigma
            signal = 1 / math.sqrt(sigma_next**2 + 1)
            x = shrink * signal * math.sqrt(sigma**2 + 1) * x + signal * (1 - shrink) * target
            before = clean
            yield x

    return Sampler(timesteps, 1.0, run)
