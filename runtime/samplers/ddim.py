"""DDIM and DDPM: steps between two levels of a schedule, with or without fresh noise."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .prediction import Prediction, alpha_levels, transfer
from .sampler import Denoise, Draw, Sampler
from .schedule import Schedule, alpha_at, whole_alphas
from .settings import SamplerSettings
from .spacing import compvis_timesteps, whole_timesteps

LEAST_VARIANCE = 1e-20
"""diffusers' floor of DDPM's variance, which its last step reaches."""


@dataclass(frozen=True, slots=True)
class Levels:
    """Visited timesteps, their cumulative alphas, and the one that each step leads to."""

    timesteps: Sequence[int]
    alphas: Sequence[float]
    alphas_next: Sequence[float]

    def __iter__(self) -> Iterator[tuple[int, float, float]]:
        return zip(self.timesteps, self.alphas, self.alphas_next, strict=True)


def ddim(schedule: Schedule, steps: int, settings: SamplerSettings) -> Sampler:
    """DDIM (Song et al. 2020, arXiv 2010.02502) as diffusers runs it: one model call a step, and with `eta` one draw.

    Raises InputError for a count whose first timestep is past the schedule's end.
    """
    assert settings.timestep_spacing is not None
    timesteps = whole_timesteps(schedule, settings.timestep_spacing, steps)
    stride = schedule.train_steps // steps
    alphas = whole_alphas(schedule, timesteps)
    reached = [alpha_at(schedule, alphas, timestep - stride) for timestep in timesteps]
    return _ddim(Levels(timesteps, [alphas[t] for t in timesteps], reached), schedule, settings)


def ddim_compvis(schedule: Schedule, steps: int, settings: SamplerSettings) -> Sampler:
    """DDIM as the CompVis code runs it: 30 steps asked of 1000 are 31. The last ends at timestep 0's alpha, never at 1.

    Raises InputError for a count whose first timestep is past the schedule's end (3, 9, 27 or 300 of 1000, say).
    """
    timesteps = compvis_timesteps(schedule, steps)
    alphas = schedule.alphas_cumprod().tolist()
    visited = [alphas[timestep] for timestep in timesteps]
    return _ddim(Levels(timesteps, visited, [*visited[1:], alphas[0]]), schedule, settings)


def _ddim(levels: Levels, schedule: Schedule, settings: SamplerSettings) -> Sampler:
    model, eta = Prediction.of(schedule, settings), settings.eta or 0.0

    def run(x: np.ndarray, denoise: Denoise, draw: Draw) -> Iterator[np.ndarray]:
        for timestep, alpha, alpha_next in levels:
            output = denoise(x, float(timestep))
            noise = model.noise(x, output, *alpha_levels(alpha))
            if eta == 0 and not model.limits and alpha > 0:
                x = transfer(x, noise, alpha, alpha_next)
            else:
                clean = model.clean(x, output, *alpha_levels(alpha))
                spread = eta * math.sqrt((1 - alpha_next) / (1 - alpha) * (1 - alpha / alpha_next))
                x = math.sqrt(alpha_next) * clean + math.sqrt(1 - alpha_next - spread**2) * noise
                if eta > 0:
                    x = x + spread * draw()
            yield x

    return Sampler(tuple(map(float, levels.timesteps)), 1.0, run)


def ddpm(schedule: Schedule, steps: int, settings: SamplerSettings) -> Sampler:
    """DDPM (Ho et al. 2020, arXiv 2006.11239, algorithm 2) as diffusers runs it: one call and one draw a step.

    The step of timestep 0, where a run visits it, draws nothing.
    """
    assert settings.timestep_spacing is not None
    timesteps = whole_timesteps(schedule, settings.timestep_spacing, steps)
    alphas = whole_alphas(schedule, timesteps)
    visited = [alphas[timestep] for timestep in timesteps]
    levels = Levels(timesteps, visited, [*visited[1:], 1.0])
    if any(after <= before for before, after in zip(visited, levels.alphas_next, strict=False)):
        raise InputError(f"steps: expected fewer for the sampler ddpm, got {steps}; its timesteps repeat")
    model = Prediction.of(schedule, settings)

    def run(x: np.ndarray, denoise: Denoise, draw: Draw) -> Iterator[np.ndarray]:
        for timestep, alpha, alpha_next in levels:
            clean = model.clean(x, denoise(x, float(timestep)), *alpha_levels(alpha))
            kept = alpha / alpha_next
            share = math.sqrt(alpha_next) * (1 - kept) / (1 - alpha)
            x = share * clean + math.sqrt(kept) * (1 - alpha_next) / (1 - alpha) * x
            if timestep > 0:
                small = max((1 - alpha_next) / (1 - alpha) * (1 - kept), LEAST_VARIANCE)
                variance = 1 - kept if settings.variance_type == "fixed_large" else small
                x = x + math.sqrt(variance) * draw()
            yield x

    return Sampler(tuple(map(float, timesteps)), 1.0, run)
