"""The noise schedule a model was trained with: its levels, and the timesteps that a run of n steps visits."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import InputError


@dataclass(frozen=True, slots=True)
class Schedule:
    """Noise schedule of Stable Diffusion v1 ("scaled linear" betas, epsilon prediction).

    `steps_offset` and `set_alpha_to_one` are diffusers' scheduler settings of the same name; the CompVis samplers
    ignore them. Timestep spacing is part of each sampler, not of the schedule.
    """

    train_steps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    steps_offset: int = 1
    set_alpha_to_one: bool = False

    def alphas_cumprod(self) -> np.ndarray:
        """Signal share of the variance after each training step: float32 [train_steps], computed as CompVis does."""
        betas = np.linspace(self.beta_start**0.5, self.beta_end**0.5, self.train_steps, dtype=np.float64) ** 2
        return np.cumprod(1.0 - betas).astype(np.float32)


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


def pred_x0(x: np.ndarray, noise: np.ndarray, alpha: float) -> np.ndarray:
    """Clean latents that `x` at cumulative alpha `alpha` holds if `noise` is its noise; not clipped."""
    return (x - math.sqrt(1 - alpha) * noise) / math.sqrt(alpha)


def transfer(x: np.ndarray, noise: np.ndarray, alpha: float, alpha_next: float) -> np.ndarray:
    """`x` moved from one cumulative alpha to another while its noise and clean latents stay what they are.

    The DDIM step with eta 0 (Song et al. 2020, arXiv 2010.02502, equation 12) and PNDM's transfer (Liu et al. 2022,
    arXiv 2202.09778, equation 9) are this same map.
    """
    keep = math.sqrt(alpha_next / alpha)
    return keep * x + (math.sqrt(1 - alpha_next) - keep * math.sqrt(1 - alpha)) * noise
