"""The noise schedule a model was trained with: its levels, and what its output predicts."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from ..errors import InputError

BetaSchedule = Literal["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace", "exp"]
PredictionType = Literal["epsilon", "v_prediction", "sample"]
TrainSteps = Annotated[int, Meta(ge=1, le=100_000)]
Beta = Annotated[float, Meta(ge=0, le=1)]
MAX_BETA = 0.999
ALMOST_NO_SIGNAL = 2.0**-24
"""What stands for a cumulative alpha of 0 where the noise is counted per unit of signal: the smallest fp16 number."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """What a model was trained on, under the names of diffusers' scheduler settings.

    `trained_betas` replace the betas that `beta_schedule` gives; `rescale_betas_zero_snr` takes the last level's signal
    away (Lin et al. 2023, arXiv 2305.08891). CompVis' samplers ignore `steps_offset` and `set_alpha_to_one`. Timestep
    spacing is part of each sampler, not of the schedule.
    """

    train_steps: TrainSteps = 1000
    beta_start: Beta = 0.00085
    beta_end: Beta = 0.012
    steps_offset: Annotated[int, Meta(ge=0, le=100_000)] = 1
    set_alpha_to_one: bool = False
    beta_schedule: BetaSchedule = "scaled_linear"
    prediction_type: PredictionType = "epsilon"
    rescale_betas_zero_snr: bool = False
    trained_betas: tuple[Beta, ...] | None = None

    def problems(self) -> list[str]:
        """What keeps it from being sampled, one line each."""
        found = []
        betas = self.trained_betas
        if betas is not None and len(betas) != self.train_steps:
            found.append(f"trained_betas: expected {self.train_steps} numbers, one a training step, got {len(betas)}")
        if self.beta_start > self.beta_end:
            found.append(f"beta_start: expected at most beta_end ({self.beta_end:g}), got {self.beta_start:g}")
        if found:
            return found
        alphas = alphas_cumprod(self)
        if not (alphas[:-1] > 0).all():
            return ["betas: expected some signal left before the last training step, got none; check the betas"]
        if alphas[0] >= 1:
            return ["betas: expected some noise in the first training step, got none; check beta_start"]
        return []

    def alphas_cumprod(self) -> np.ndarray:
        """Signal share of the variance after each training step: float32 [train_steps], computed as CompVis does."""
        betas = self._betas(np.float64)
        if self.rescale_betas_zero_snr:
            betas = rescale_zero_snr(betas)
        return np.cumprod(1.0 - betas).astype(np.float32)

    def _betas(self, precision: type[np.floating]) -> np.ndarray:
        """The noise added by each training step, before any rescaling, computed in float64 or in float32."""
        start, end, count = self.beta_start, self.beta_end, self.train_steps
        if self.trained_betas is not None:
            return np.asarray(self.trained_betas, precision)
        if self.beta_schedule == "linear":
            return linspace(start, end, count, precision)
        if self.beta_schedule == "scaled_linear":
            return linspace(start**0.5, end**0.5, count, precision) ** 2
        if self.beta_schedule == "sigmoid":
            ramp = linspace(-6, 6, count, precision)
            return (1 / (1 + np.exp(-ramp)) * precision(end - start) + precision(start)).astype(precision)
        kept = SIGNAL_SHARES[self.beta_schedule]
        shares = [kept(index / count) for index in range(count + 1)]
        return np.array([min(1 - after / before, MAX_BETA) for before, after in pairwise(shares)], precision)


def _laplace(time: float) -> float:
    log_snr = -0.5 * math.copysign(1, 0.5 - time) * math.log(1 - 2 * math.fabs(0.5 - time) + 1e-6)
    snr = math.exp(log_snr)
    return math.sqrt(snr / (1 + snr))


SIGNAL_SHARES = {
    "squaredcos_cap_v2": lambda time: math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2,
    "laplace": _laplace,
    "exp": lambda time: math.exp(time * -12.0),
}
"""Schedules that diffusers defines by the share of the signal left at a time from 0 to 1."""


def linspace(start: float, end: float, count: int, precision: type[np.floating]) -> np.ndarray:
    """`count` evenly spaced numbers. In float32 as torch makes them on processors with fused multiply-add: counted from
    the nearer end, one rounding per value."""
    if precision is np.float64 or count == 1:
        return np.linspace(start, end, count, dtype=precision)
    first, last = np.float32(start), np.float32(end)
    stride = np.float64((last - first) / np.float32(count - 1))
    index = np.arange(count, dtype=np.float64)
    values = np.where(index < count // 2, first + stride * index, last - stride * (count - 1 - index))
    return values.astype(np.float32)


def rescale_zero_snr(betas: np.ndarray) -> np.ndarray:
    """Betas whose last step leaves no signal, and whose first is as it was (arXiv 2305.08891, algorithm 1)."""
    roots = np.sqrt(np.cumprod(1 - betas, dtype=np.float64).astype(betas.dtype))
    shifted = (roots - roots[-1]) * (roots[0] / (roots[0] - roots[-1]))
    kept = shifted**2
    return 1 - np.concatenate([kept[:1], kept[1:] / kept[:-1]])


def training_betas(schedule: Schedule) -> np.ndarray:
    """The noise added by each training step: float32 [train_steps]."""
    betas = schedule._betas(np.float32)
    return rescale_zero_snr(betas) if schedule.rescale_betas_zero_snr else betas


def alphas_cumprod(schedule: Schedule) -> np.ndarray:
    """Signal share of the variance after each training step: float32 [train_steps].

    Differs from `Schedule.alphas_cumprod` by about 1e-6 of its value: betas and alphas are float32 here.
    """
    return np.cumprod(np.float32(1) - training_betas(schedule), dtype=np.float64).astype(np.float32)


def alpha_at(schedule: Schedule, alphas: list[float], timestep: int) -> float:
    """Cumulative alpha of a timestep; below 0 stands for the end of the run."""
    if timestep >= 0:
        return alphas[timestep]
    return 1.0 if schedule.set_alpha_to_one else alphas[0]


def training_sigmas(schedule: Schedule) -> np.ndarray:
    """Noise per unit of signal (standard deviations) after each training step: float32 [train_steps], ascending."""
    alphas = alphas_cumprod(schedule)
    if schedule.rescale_betas_zero_snr or alphas[-1] == 0:
        alphas[-1] = ALMOST_NO_SIGNAL
    return np.sqrt((1 - alphas) / alphas)


def whole_alphas(schedule: Schedule, timesteps: tuple[int, ...]) -> list[float]:
    """The cumulative alphas of all training steps, for a sampler that visits these; the first of them is the noisiest.

    Raises InputError where a visited step holds no signal and the model predicts the noise: no picture follows from it.
    """
    alphas: list[float] = alphas_cumprod(schedule).tolist()
    if schedule.prediction_type == "epsilon" and alphas[timesteps[0]] == 0:
        raise InputError(
            f"prediction_type: expected v_prediction or sample at timestep {timesteps[0]}, which holds no signal, got "
            "epsilon; use a checkpoint of that kind, or leave rescale_betas_zero_snr out"
        )
    return alphas
