"""Which timesteps and noise levels a run of n steps visits."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import InputError
from .prediction import alpha_levels
from .sampler import Level
from .schedule import Schedule, training_sigmas
from .settings import SamplerSettings, Spacing

Family = Literal["whole", "fractions", "open"]
"""How timesteps are spaced: whole numbers with both ends, as DDIM visits them; the same with fractions, as Euler does;
or whole numbers without the last of n + 1, as DPM-Solver does."""
RHO = 7.0
"""The exponent of Karras' spacing (Karras et al. 2022, arXiv 2206.00364, equation 5)."""
BETA = 0.6
"""Both parameters of the beta distribution that spaces noise levels (Lee et al. 2024, arXiv 2407.12173)."""
SMALLEST_SIGMA = 1e-10


def spaced(schedule: Schedule, spacing: Spacing, steps: int, family: Family, end: int | None = None) -> np.ndarray:
    """Timesteps of a run in falling order, as diffusers spaces them; float64.

    `end` is one past the last timestep, where it is not the schedule's own. "trailing" rounds its stride, so that few
    counts visit one timestep more than asked.
    """
    last = schedule.train_steps if end is None else end
    count = steps + 1 if family == "open" else steps
    if spacing == "linspace" and family == "fractions":
        return np.linspace(0, last - 1, count, dtype=np.float32)[::-1].astype(np.float64)
    if spacing == "trailing":
        return np.arange(last, 0, -schedule.train_steps / steps).round() - 1
    if spacing == "leading":
        timesteps = np.arange(count)[::-1] * (last // count) + float(schedule.steps_offset)
    else:
        timesteps = np.asarray(np.linspace(0, last - 1, count)[::-1].round())
    return timesteps[:-1] if family == "open" else timesteps


def whole_timesteps(schedule: Schedule, spacing: Spacing, steps: int) -> tuple[int, ...]:
    """Timesteps of DDIM and its kin, each an index of the schedule; raises InputError for a count that leaves it."""
    return within_schedule(schedule, steps, lambda count: spaced(schedule, spacing, count, "whole").astype(int))


def compvis_timesteps(schedule: Schedule, steps: int) -> tuple[int, ...]:
    """Every timestep at stride train_steps // steps, from 1: more of them than asked where the stride leaves a rest."""
    last = schedule.train_steps
    return within_schedule(schedule, steps, lambda count: range(1, last + 1, last // count)[::-1])


def compvis_starts(visited: Sequence[float]) -> tuple[Level, ...]:
    """What CompVis' img2img script noises a start to, for each step to begin with, by the alphas of the timesteps that
    are visited: to the level before that step's own, which a run from its first step lacks."""
    return tuple(Level(*alpha_levels(alpha)) for alpha in (visited[0], *visited[:-1]))


def within_schedule(
    schedule: Schedule, steps: int, falling: Callable[[int], Sequence[int] | np.ndarray]
) -> tuple[int, ...]:
    """Refuses a count that would step past the end of the schedule, where the originals fail with an index error."""
    last = schedule.train_steps - 1
    timesteps = falling(steps)
    if timesteps[0] > last:
        works = [count for count in range(1, schedule.train_steps) if falling(count)[0] <= last]
        fewer, more = [count for count in works if count < steps][-1:], [count for count in works if count > steps][:1]
        nearest = " and ".join(map(str, (*fewer, *more)))
        fix = f"the nearest that work: {nearest}" if works else "use another sampler"
        raise InputError(
            f"steps: expected a count whose timesteps end at {last} or before for this sampler, "
            f"got {steps}, which starts at {timesteps[0]}; {fix}"
        )
    return tuple(int(timestep) for timestep in timesteps)


@dataclass(frozen=True, slots=True)
class NoiseLevels:
    """Timesteps [n] of a run and its sigmas [n + 1], float32 values in falling order; the last one is the end's."""

    timesteps: tuple[float, ...]
    sigmas: tuple[float, ...]


def interpolated_levels(schedule: Schedule, steps: int, settings: SamplerSettings) -> NoiseLevels:
    """Levels of the Euler, LMS, Heun and KDPM2 samplers, at timesteps with fractions.

    The other rules for sigmas space them between the first and the last of the timesteps that are visited anyhow.
    """
    trained = training_sigmas(schedule)
    assert settings.timestep_spacing is not None
    timesteps = spaced(schedule, settings.timestep_spacing, steps, "fractions")
    if settings.interpolation_type == "log_linear":
        ends = np.log(trained[-1]), np.log(trained[0])
        sigmas = np.exp(np.linspace(*ends, steps + 1, dtype=np.float32)).astype(np.float64)
    else:
        sigmas = np.interp(timesteps, np.arange(len(trained)), trained)
    if settings.sigmas is not None:
        ends = (settings.sigma_max or float(sigmas[0]), settings.sigma_min or float(sigmas[-1]))
        sigmas = respaced(settings, *ends, steps)
        timesteps = timesteps_at(sigmas, trained)
    last = float(trained[0]) if settings.final_sigmas_type == "sigma_min" else 0.0
    return _levels(timesteps, [*sigmas, last])


def solver_levels(schedule: Schedule, steps: int, settings: SamplerSettings, cuts_cosine: bool = False) -> NoiseLevels:
    """Levels of DPM-Solver, UniPC and DEIS, at whole timesteps.

    The other rules for sigmas space them over the whole schedule. diffusers rounds the timesteps of Karras' and Lu's,
    and cuts the fractions off the others'; with `cuts_cosine` off those of a cosine schedule, too.
    """
    trained = training_sigmas(schedule)
    end = _clipped_end(schedule, settings.lambda_min_clipped)
    assert settings.timestep_spacing is not None
    if settings.sigmas is None:
        timesteps = spaced(schedule, settings.timestep_spacing, steps, "open", end)
        sigmas = np.interp(timesteps, np.arange(len(trained)), trained)
    else:
        ends = (settings.sigma_max or float(trained[-1]), settings.sigma_min or float(trained[0]))
        sigmas = respaced(settings, *ends, steps)
        timesteps = timesteps_at(sigmas, trained)
        cosine = cuts_cosine and schedule.beta_schedule == "squaredcos_cap_v2"
        rounds = settings.sigmas in ("karras", "lu") and not cosine
        timesteps = timesteps.round() if rounds else np.trunc(timesteps)
    last = float(trained[0]) if settings.final_sigmas_type == "sigma_min" else 0.0
    return _levels(timesteps, [*sigmas, last])


def respaced(settings: SamplerSettings, largest: float, smallest: float, steps: int) -> np.ndarray:
    """`steps` sigmas from the largest to the smallest by the rule of `settings.sigmas`; float64."""
    if settings.sigmas == "karras":
        return karras(largest, smallest, steps)
    if settings.sigmas == "exponential":
        return np.exp(np.linspace(math.log(largest), math.log(smallest), steps))
    if settings.sigmas == "lu":
        # Lu et al. 2022, arXiv 2206.00927: even in the logarithm, computed from its float32 ends.
        first, last = np.float32(math.log(largest)), np.float32(math.log(smallest))
        return np.exp(float(first) + np.linspace(0, 1, steps) * (float(last) - float(first)))
    return smallest + beta_quantiles(1 - np.linspace(0, 1, steps)) * (largest - smallest)


def karras(largest: float, smallest: float, steps: int, rho: float = RHO) -> np.ndarray:
    """Sigmas evenly spaced in sigma^(1/rho). Small noise levels lie dense: from some 50 steps on, the last whole
    timesteps repeat."""
    low, high = smallest ** (1 / rho), largest ** (1 / rho)
    return (high + np.linspace(0, 1, steps) * (low - high)) ** rho


def timesteps_at(sigmas: np.ndarray, trained: np.ndarray) -> np.ndarray:
    """Timesteps, with fractions, at which a schedule has these noise levels, by their logarithms."""
    logs = np.log(trained)
    wanted = np.log(np.maximum(sigmas, SMALLEST_SIGMA))
    below = np.clip(np.searchsorted(logs, wanted, side="right") - 1, 0, len(logs) - 2)
    low, high = logs[below], logs[below + 1]
    # The logarithms and their differences are float32, as in diffusers: fractions that are cut off decide by them.
    share = np.clip((low.astype(np.float64) - wanted) / (low - high), 0, 1)
    return (1 - share) * below + share * (below + 1)


def beta_quantiles(shares: np.ndarray) -> np.ndarray:
    """Quantiles of the beta distribution whose two parameters are both BETA; float64 like `shares`, from 0 to 1."""
    # Symmetric, so that only the lower half is searched, where the series falls by half with every term.
    below = np.minimum(shares, 1 - shares)
    scale = math.gamma(2 * BETA) / math.gamma(BETA) ** 2
    low, high = np.zeros_like(below), np.full_like(below, 0.5)
    for _ in range(60):
        middle = (low + high) / 2
        term, total = np.ones_like(middle), np.full_like(middle, 1 / BETA)
        for order in range(1, 60):
            term = term * middle * (order - BETA) / order
            total = total + term / (BETA + order)
        reached = scale * middle**BETA * total >= below
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    quantiles = np.where(below > 0, (low + high) / 2, 0.0)
    return np.where(shares <= 0.5, quantiles, 1 - quantiles)


def _clipped_end(schedule: Schedule, lambda_min: float | None) -> int:
    """One past the last timestep whose log-SNR is not below `lambda_min`."""
    if lambda_min is None:
        return schedule.train_steps
    log_snr = -np.log(training_sigmas(schedule))
    return schedule.train_steps - int(np.searchsorted(log_snr[::-1], np.float32(lambda_min)))


def _levels(timesteps: np.ndarray, sigmas: Sequence[float]) -> NoiseLevels:
    return NoiseLevels(tuple(timesteps.tolist()), tuple(np.asarray(sigmas, np.float32).tolist()))
