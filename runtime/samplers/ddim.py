"""DDIM, DDPM and unCLIP's own: steps between two levels of a schedule, with or without fresh noise."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import InputError
from .prediction import Prediction, alpha_levels, transfer
from .sampler import CLEAN, WHOLE, Begin, Denoise, Draw, Level, Sampler
from .schedule import Schedule, alpha_at, alphas_cumprod, training_betas, whole_alphas
from .settings import SamplerSettings
from .spacing import compvis_starts, compvis_timesteps, whole_timesteps

LEAST_VARIANCE = 1e-20
"""diffusers' floor of DDPM's variance, which its last step reaches."""
LEARNED = "learned_range"
"""The variance of a model that says, beside the noise, where it lies between the least and the most."""


@dataclass(frozen=True, slots=True)
class Levels:
    """Visited timesteps, their cumulative alphas, and the one that each step leads to."""

    timesteps: Sequence[int]
    alphas: Sequence[float]
    alphas_next: Sequence[float]

    @property
    def steps(self) -> list[tuple[int, float, float]]:
        """Each step's timestep, its cumulative alpha, and the one that it leads to."""
        return list(zip(self.timesteps, self.alphas, self.alphas_next, strict=True))

    @property
    def marks(self) -> tuple[Level, ...]:
        """The level that each step begins at, and the end's."""
        return (*(Level(*alpha_levels(alpha)) for alpha in self.alphas), CLEAN)


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

    A start is noised as its img2img script has it: to the level of the visited timestep before the first. Raises
    InputError for a count whose first timestep is past the schedule's end (3, 9, 27 or 300 of 1000, say).
    """
    timesteps = compvis_timesteps(schedule, steps)
    alphas = schedule.alphas_cumprod().tolist()
    visited = [alphas[timestep] for timestep in timesteps]
    sampler = _ddim(Levels(timesteps, visited, [*visited[1:], alphas[0]]), schedule, settings)
    return replace(sampler, starts=compvis_starts(visited), unasked=len(timesteps) - steps)


def _ddim(levels: Levels, schedule: Schedule, settings: SamplerSettings) -> Sampler:
    marks = levels.marks
    model, eta = Prediction.of(schedule, settings), settings.eta or 0.0

    def run(x: np.ndarray, denoise: Denoise, draw: Draw, begin: Begin = WHOLE) -> Iterator[np.ndarray]:
        for index, (timestep, alpha, alpha_next) in begin.rest(levels.steps):
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
            x = begin.keep(x, marks[index + 1])
            yield x

    return Sampler(tuple(map(float, levels.timesteps)), 1.0, run, marks[:-1])


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
    model, marks = Prediction.of(schedule, settings), levels.marks

    def run(x: np.ndarray, denoise: Denoise, draw: Draw, begin: Begin = WHOLE) -> Iterator[np.ndarray]:
        for index, (timestep, alpha, alpha_next) in begin.rest(levels.steps):
            clean = model.clean(x, denoise(x, float(timestep)), *alpha_levels(alpha))
            kept = alpha / alpha_next
            share = math.sqrt(alpha_next) * (1 - kept) / (1 - alpha)
            x = share * clean + math.sqrt(kept) * (1 - alpha_next) / (1 - alpha) * x
            if timestep > 0:
                small = max((1 - alpha_next) / (1 - alpha) * (1 - kept), LEAST_VARIANCE)
                variance = 1 - kept if settings.variance_type == "fixed_large" else small
                x = x + math.sqrt(variance) * draw()
            x = begin.keep(x, marks[index + 1])
            yield x

    return Sampler(tuple(map(float, timesteps)), 1.0, run, marks[:-1])


@dataclass(frozen=True, slots=True)
class _Move:
    """One step from a cumulative alpha to a higher one; all float32."""

    timestep: int
    alpha: np.float32
    alpha_next: np.float32
    beta: np.float32

    @property
    def variance(self) -> np.float32:
        """The least of the step's noise."""
        return (1 - self.alpha_next) / (1 - self.alpha) * self.beta

    def mean(self, clean: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Where the step leads without noise."""
        share = np.sqrt(self.alpha_next) * self.beta / (1 - self.alpha)
        kept = np.sqrt(1 - self.beta) * (1 - self.alpha_next) / (1 - self.alpha)
        return share * clean + kept * x

    def spread(self, logits: np.ndarray | None) -> np.ndarray:
        """The standard deviation of its noise, by the model's logits from -1 (least) to 1 (most) where it has some."""
        if logits is None:
            return np.exp(np.float32(0.5) * np.log(np.maximum(self.variance, np.float32(LEAST_VARIANCE))))
        most = (logits + 1) / 2
        return np.exp(np.float32(0.5) * (most * np.log(self.beta) + (1 - most) * np.log(self.variance)))


def unclip(schedule: Schedule, steps: int, settings: SamplerSettings) -> Sampler:
    """Ancestral sampling of unCLIP (Ramesh et al. 2022, arXiv 2204.06125) as diffusers' UnCLIPScheduler has it: one
    model call a step, and one draw after each but that of timestep 0.

    With `variance_type` learned_range the model's output has twice the channels: noise, then the variance's logits.
    The scalars are float32 as there: near timestep 0 doubles give another picture. Raises InputError for one step.
    """
    moves = _moves(schedule, steps)
    model, learned = Prediction.of(schedule, settings), settings.variance_type == LEARNED
    marks = (*(Level(*alpha_levels(float(move.alpha))) for move in moves), CLEAN)

    def run(x: np.ndarray, denoise: Denoise, draw: Draw, begin: Begin = WHOLE) -> Iterator[np.ndarray]:
        for index, move in begin.rest(moves):
            output, logits = _split(denoise(x, float(move.timestep)), learned)
            clean = model.clean(x, output, np.sqrt(move.alpha), np.sqrt(1 - move.alpha))
            x = move.mean(clean, x)
            if move.timestep > 0:
                x = x + move.spread(logits) * draw()
            x = begin.keep(x, marks[index + 1])
            yield x

    levels = {move.timestep: (np.sqrt(move.alpha), np.sqrt(1 - move.alpha)) for move in moves}

    def clean(shown: np.ndarray, output: np.ndarray, timestep: float) -> np.ndarray:
        return model.clean(shown, _split(output, learned)[0], *levels[round(timestep)])

    return Sampler(tuple(float(move.timestep) for move in moves), 1.0, run, marks[:-1], clean=clean)


def _moves(schedule: Schedule, steps: int) -> list[_Move]:
    if steps < 2:
        raise InputError(f"steps: expected 2 or more for the sampler unclip, got {steps}; its steps have two ends")
    last = schedule.train_steps - 1
    timesteps = [round(number * last / (steps - 1)) for number in range(steps)][::-1]
    alphas, betas = alphas_cumprod(schedule), training_betas(schedule)
    moves = []
    for timestep, following in zip(timesteps, (*timesteps[1:], -1), strict=True):
        alpha, alpha_next = alphas[timestep], alphas[following] if following >= 0 else np.float32(1)
        beta = betas[timestep] if following == timestep - 1 else 1 - alpha / alpha_next
        moves.append(_Move(timestep, alpha, alpha_next, np.float32(beta)))
    return moves


def _split(output: np.ndarray, learned: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """The prediction and the variance's logits."""
    if not learned:
        return output, None
    prediction, logits = np.split(output, 2, axis=1)
    return prediction, logits
