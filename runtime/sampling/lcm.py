"""Multistep sampling of latent consistency models (Luo et al. 2023, arXiv 2310.04378), as diffusers runs it."""

import math
from collections.abc import Iterator

import numpy as np

from ..errors import InputError
from .sampler import Denoise, Draw, Sampler
from .schedule import Schedule, alphas_cumprod, pred_x0

DISTILLED_STEPS = 50
TIMESTEP_SCALING = 10.0
SIGMA_DATA = 0.5


def lcm(schedule: Schedule, steps: int) -> Sampler:
    """One model call a step and one draw after each but the last, over the 50 timesteps of the usual distillation.

    Raises InputError for more than 50 steps, or for a schedule of fewer than 50 training steps.
    """
    timesteps = distilled_timesteps(schedule, steps)
    alphas = alphas_cumprod(schedule).tolist()

    def run(x: np.ndarray, denoise: Denoise, draw: Draw) -> Iterator[np.ndarray]:
        for index, timestep in enumerate(timesteps):
            clean = pred_x0(x, denoise(x, float(timestep)), alphas[timestep])
            skip, out = boundary_weights(timestep)
            x = skip * x + out * clean
            if index + 1 < len(timesteps):
                alpha_next = alphas[timesteps[index + 1]]
                x = math.sqrt(alpha_next) * x + math.sqrt(1 - alpha_next) * draw()
            yield x

    return Sampler(tuple(map(float, timesteps)), 1.0, run)


def distilled_timesteps(schedule: Schedule, steps: int) -> tuple[int, ...]:
    """`steps` of the timesteps a student was distilled on, evenly spaced from the last one down."""
    if schedule.train_steps < DISTILLED_STEPS:
        raise InputError(
            f"train_steps: expected {DISTILLED_STEPS} or more for the sampler lcm, got {schedule.train_steps}; "
            "use another sampler"
        )
    if steps > DISTILLED_STEPS:
        raise InputError(
            f"steps: expected 1 to {DISTILLED_STEPS} for the sampler lcm, got {steps}; "
            f"ask for {DISTILLED_STEPS} or fewer (4 to 8 are usual)"
        )
    stride = schedule.train_steps // DISTILLED_STEPS
    skipped = np.floor(np.linspace(0, DISTILLED_STEPS, steps, endpoint=False)).astype(int).tolist()
    return tuple((DISTILLED_STEPS - index) * stride - 1 for index in skipped)


def boundary_weights(timestep: int) -> tuple[float, float]:
    """Shares of the noisy and of the predicted clean latents, which make the student the identity at timestep 0."""
    scaled = timestep * TIMESTEP_SCALING
    variance = scaled**2 + SIGMA_DATA**2
    return SIGMA_DATA**2 / variance, scaled / math.sqrt(variance)
