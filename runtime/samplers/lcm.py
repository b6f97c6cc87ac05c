"""Samplers of consistency models, whose timesteps are those that a student was distilled on: LCM and TCD."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from ..errors import InputError
from .prediction import Prediction, alpha_levels
from .sampler import CLEAN, WHOLE, Begin, Denoise, Draw, Level, Sampler
from .schedule import Schedule, whole_alphas
from .settings import SamplerSettings

SIGMA_DATA = 0.5


def lcm(schedule: Schedule, steps: int, settings: SamplerSettings) -> Sampler:
    """Multistep sampling of latent consistency models (Luo et al. 2023, arXiv 2310.04378), as diffusers runs it.

    One model call a step and one draw after each but the last. Raises InputError for more steps than the distillation
    had, or for a schedule of fewer training steps.
    """
    timesteps = distilled_timesteps(schedule, steps, settings, "lcm")
    alphas = whole_alphas(schedule, timesteps)
    marks = _marks(timesteps, alphas)
    model, scaling = Prediction.of(schedule, settings), settings.timestep_scaling or 0.0

    def run(x: np.ndarray, denoise: Denoise, draw: Draw, begin: Begin = WHOLE) -> Iterator[np.ndarray]:
        for index, timestep in begin.rest(timesteps):
            clean = model.clean(x, denoise(x, float(timestep)), *alpha_levels(alphas[timestep]))
            skip, out = boundary_weights(timestep * scaling)
            x = skip * x + out * clean
            if index + 1 < len(timesteps):
                signal, noise_level = alpha_levels(alphas[timesteps[index + 1]])
                x = signal * x + noise_level * draw()
            x = begin.keep(x, marks[index + 1])
            yield x

    return Sampler(tuple(map(float, timesteps)), 1.0, run, marks[:-1])


def tcd(schedule: Schedule, steps: int, settings: SamplerSettings) -> Sampler:
    """Trajectory consistency distillation's strategic sampling (Zheng et al. 2024, arXiv 2402.19159), as diffusers runs
    it: one model call a step and, with `eta`, one draw after each but the last.

    `eta` is the paper's gamma: each step jumps below the next timestep and adds noise up to it; 0 adds none. Raises
    InputError as `lcm` does.
    """
    timesteps = distilled_timesteps(schedule, steps, settings, "tcd")
    alphas = whole_alphas(schedule, timesteps)
    model, eta, marks = Prediction.of(schedule, settings), settings.eta or 0.0, _marks(timesteps, alphas)

    def run(x: np.ndarray, denoise: Denoise, draw: Draw, begin: Begin = WHOLE) -> Iterator[np.ndarray]:
        for index, timestep in begin.rest(timesteps):
            after = (*timesteps, 0)[index + 1]
            output = denoise(x, float(timestep))
            levels = alpha_levels(alphas[timestep])
            below = alphas[math.floor((1 - eta) * after)]
            signal, noise_level = alpha_levels(below)
            x = signal * model.clean(x, output, *levels) + noise_level * model.noise(x, output, *levels)
            if eta > 0 and timestep != timesteps[-1]:
                kept = alphas[after] / below
                x = math.sqrt(kept) * x + math.sqrt(1 - kept) * draw()
            x = begin.keep(x, marks[index + 1])
            yield x

    return Sampler(tuple(map(float, timesteps)), 1.0, run, marks[:-1])


def _marks(timesteps: Sequence[int], alphas: Sequence[float]) -> tuple[Level, ...]:
    """The level that each step begins at, and the end's."""
    return (*(Level(*alpha_levels(alphas[timestep])) for timestep in timesteps), CLEAN)


def distilled_timesteps(schedule: Schedule, steps: int, settings: SamplerSettings, name: str) -> tuple[int, ...]:
    """`steps` of the timesteps a student was distilled on, evenly spaced from the last one down."""
    distilled = settings.original_inference_steps or 0
    if schedule.train_steps < distilled:
        raise InputError(
            f"train_steps: expected {distilled} or more for the sampler {name}, got {schedule.train_steps}; "
            "use another sampler"
        )
    if steps > distilled:
        raise InputError(
            f"steps: expected 1 to {distilled} for the sampler {name}, got {steps}; "
            f"ask for {distilled} or fewer (4 to 8 are usual)"
        )
    stride = schedule.train_steps // distilled
    skipped = np.floor(np.linspace(0, distilled, steps, endpoint=False)).astype(int).tolist()
    return tuple((distilled - index) * stride - 1 for index in skipped)


def boundary_weights(scaled: float) -> tuple[float, float]:
    """Shares of the noisy and of the predicted clean latents, which make the student the identity at timestep 0."""
    variance = scaled**2 + SIGMA_DATA**2
    return SIGMA_DATA**2 / variance, scaled / math.sqrt(variance)
