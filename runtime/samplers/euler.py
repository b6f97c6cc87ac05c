"""Solvers of the probability flow in noise levels (Karras et al. 2022, arXiv 2206.00364): Euler's method and Heun's,
DPM-Solver-2 as k-diffusion has it, and their ancestral forms, as diffusers runs them."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..errors import InputError
from .prediction import Prediction, levels
from .sampler import CLEAN, WHOLE, Begin, Denoise, Draw, Level, Sampler, SamplerRun
from .schedule import Schedule, training_sigmas
from .settings import SamplerSettings
from .spacing import NoiseLevels, interpolated_levels, karras, timesteps_at

Slope = Callable[[np.ndarray, np.ndarray, float], np.ndarray]
"""(x, output, sigma) -> dx/dsigma, of latents of variance 1 + sigma^2."""


@dataclass(frozen=True, slots=True)
class Flow:
    """A model in the coordinates of these solvers: x = clean + sigma * noise."""

    model: Prediction
    denoise: Denoise

    def slope(self, x: np.ndarray, sigma: float, timestep: float) -> np.ndarray:
        """dx/dsigma at latents of variance 1 + sigma^2; one model call."""
        signal, noise_level = levels(sigma)
        shown = unit_variance(x, sigma)
        output = self.denoise(shown, timestep)
        if self.model.limits:
            return (x - self.model.clean(shown, output, signal, noise_level)) / sigma
        return self.model.noise(shown, output, signal, noise_level)

    def clean(self, x: np.ndarray, sigma: float, timestep: float) -> np.ndarray:
        """The clean latents predicted at latents of variance 1 + sigma^2; one model call."""
        shown = unit_variance(x, sigma)
        return self.model.clean(shown, self.denoise(shown, timestep), *levels(sigma))


def unit_variance(x: np.ndarray, sigma: float) -> np.ndarray:
    """Latents of variance 1 + sigma^2 scaled to the variance 1 that the UNet was trained on."""
    return x / math.sqrt(sigma**2 + 1)


def start_scale(sigmas: tuple[float, ...], settings: SamplerSettings) -> float:
    """Standard deviation of the start noise; a run that starts below the schedule's end counts the signal in."""
    largest = max(sigmas)
    return math.sqrt(largest**2 + 1) if settings.timestep_spacing == "leading" else largest


def sigma_marks(sigmas: Sequence[float]) -> tuple[Level, ...]:
    """The level that each step begins at, of sigmas [n + 1], and the end's."""
    return (*(Level(1.0, sigma) for sigma in sigmas[:-1]), CLEAN)


def euler(schedule: Schedule, steps: int, settings: SamplerSettings) -> Sampler:
    """One model call a step, at timesteps with fractions; spaced by linspace, a one-step run starts at the smallest
    noise level. With continuous timesteps the model is shown a quarter of the logarithm of sigma."""
    walked = interpolated_levels(schedule, steps, settings)
    timesteps, sigmas, marks = walked.timesteps, walked.sigmas, sigma_marks(walked.sigmas)
    if settings.timestep_type == "continuous" and schedule.prediction_type == "v_prediction":
        timesteps = tuple(0.25 * math.log(sigma) for sigma in sigmas[:-1])
    model = Prediction.of(schedule, settings)

    def run(x: np.ndarray, denoise: Denoise, draw: Draw, begin: Begin = WHOLE) -> Iterator[np.ndarray]:
        flow = Flow(model, denoise)
        for index, timestep in begin.rest(timesteps):
            sigma, sigma_next = sigmas[index], sigmas[index + 1]
            x = begin.keep(x + (sigma_next - sigma) * flow.slope(x, sigma, timestep), marks[index + 1])
            yield x

    scale = start_scale(sigmas, settings)
    return Sampler(timesteps, scale, run, marks[:-1], clean=_clean_at(model, timesteps, sigmas), sigmas=sigmas)


def euler_a(schedule: Schedule, steps: int, settings: SamplerSettings) -> Sampler:
    """One model call and one draw a step; spaced by linspace, a one-step run starts at the smallest noise level.

    The last draw has no weight; it is made so that a shared generator ends where diffusers leaves it.
    """
    _refuse_sample(schedule, "euler_a")
    walked, model = interpolated_levels(schedule, steps, settings), Prediction.of(schedule, settings)
    timesteps, sigmas, marks = walked.timesteps, walked.sigmas, sigma_marks(walked.sigmas)

    def run(x: np.ndarray, denoise: Denoise, draw: Draw, begin: Begin = WHOLE) -> Iterator[np.ndarray]:
        flow = Flow(model, denoise)
        for index, timestep in begin.rest(timesteps):
            sigma = sigmas[index]
            down, fresh = ancestral(sigma, sigmas[index + 1])
            x = x + (down - sigma) * flow.slope(x, sigma, timestep) + fresh * draw()
            x = begin.keep(x, marks[index + 1])
            yield x

    return Sampler(timesteps, start_scale(sigmas, settings), run, marks[:-1], sigmas=sigmas)


def ancestral(sigma: float, sigma_next: float) -> tuple[float, float]:
    """The noise level to step down to, and the deviation of the fresh noise that brings it to `sigma_next`.

    Computed in float32, as diffusers does: where a step is large, hardly any of the lower level is left of rounding.
    """
    start, end = np.float32(sigma), np.float32(sigma_next)
    fresh = np.sqrt(end**2 * (start**2 - end**2) / start**2)
    return float(np.sqrt(end**2 - fresh**2)), float(fresh)


def heun(schedule: Schedule, steps: int, settings: SamplerSettings) -> Sampler:
    """Two model calls a step, at both its ends, and one in the last."""
    walked, model = interpolated_levels(schedule, steps, settings), Prediction.of(schedule, settings)
    timesteps, sigmas, marks = walked.timesteps, walked.sigmas, sigma_marks(walked.sigmas)

    def run(x: np.ndarray, denoise: Denoise, draw: Draw, begin: Begin = WHOLE) -> Iterator[np.ndarray]:
        flow = Flow(model, denoise)
        for index, timestep in begin.rest(timesteps):
            sigma, sigma_next = sigmas[index], sigmas[index + 1]
            slope = flow.slope(x, sigma, timestep)
            ahead = x + (sigma_next - sigma) * slope
            ahead = begin.keep(ahead, marks[index + 1])
            if index + 1 < steps:
                slope = (slope + flow.slope(ahead, sigma_next, timesteps[index + 1])) / 2
                ahead = begin.keep(x + (sigma_next - sigma) * slope, marks[index + 1])
            x = ahead
            yield x

    return _two_calls(walked, start_scale(sigmas, settings), run)


def _two_calls(walked: NoiseLevels, scale: float, run: SamplerRun) -> Sampler:
    """A sampler that calls the model twice in every step but the last."""
    starts, extra = sigma_marks(walked.sigmas)[:-1], len(walked.timesteps) - 1
    return Sampler(walked.timesteps, scale, run, starts, extra_calls=extra, calls_a_step=2, sigmas=walked.sigmas)


def dpm2(schedule: Schedule, steps: int, settings: SamplerSettings) -> Sampler:
    """Two model calls a step, the second at the geometric mean of its noise levels, and one in the last."""
    return _dpm2(schedule, steps, settings, "dpm2", lambda sigma, after: (after, 0.0))


def dpm2_a(schedule: Schedule, steps: int, settings: SamplerSettings) -> Sampler:
    """The same, stepping below the next noise level and drawing fresh noise up to it; no draw in the last step."""
    return _dpm2(schedule, steps, settings, "dpm2_a", ancestral)


def _dpm2(
    schedule: Schedule,
    steps: int,
    settings: SamplerSettings,
    name: str,
    split: Callable[[float, float], tuple[float, float]],
) -> Sampler:
    _refuse_sample(schedule, name)
    walked, model = interpolated_levels(schedule, steps, settings), Prediction.of(schedule, settings)
    if settings.sigmas == "karras":
        walked = NoiseLevels(tuple(float(round(t)) for t in walked.timesteps), walked.sigmas)
    timesteps, sigmas, marks = walked.timesteps, walked.sigmas, sigma_marks(walked.sigmas)
    targets = [split(*pair) for pair in pairwise(sigmas)]
    middles = [_middle(sigma, down) for sigma, (down, _) in zip(sigmas, targets, strict=False)]
    middle_times = timesteps_at(np.asarray(middles), training_sigmas(schedule)).tolist()

    def run(x: np.ndarray, denoise: Denoise, draw: Draw, begin: Begin = WHOLE) -> Iterator[np.ndarray]:
        flow = Flow(model, denoise)
        for index, timestep in begin.rest(timesteps):
            sigma, middle, (down, fresh) = sigmas[index], middles[index], targets[index]
            slope = flow.slope(x, sigma, timestep)
            if index + 1 < steps:
                # Midway, too, what is kept has the noise of the step's end, as in diffusers.
                ahead = begin.keep(x + (middle - sigma) * slope, marks[index + 1])
                slope = flow.slope(ahead, middle, middle_times[index])
            x = x + (down - sigma) * slope
            if fresh > 0:
                x = x + fresh * draw()
            x = begin.keep(x, marks[index + 1])
            yield x

    return _two_calls(walked, start_scale(sigmas, settings), run)


def dpmpp_sde(schedule: Schedule, steps: int, settings: SamplerSettings) -> Sampler:
    """DPM-Solver++ (SDE) as k-diffusion has it: two model calls and two draws a step, one call alone in the last.

    Both half steps of a step ride on one Brownian path, as diffusers' noise sampler makes it: the path from the start
    to the middle is a part of that to the end.
    """
    _refuse_sample(schedule, "dpmpp_sde")
    walked, model = interpolated_levels(schedule, steps, settings), Prediction.of(schedule, settings)
    timesteps, sigmas, marks = walked.timesteps, walked.sigmas, sigma_marks(walked.sigmas)
    middles = [_middle(*pair) for pair in pairwise(sigmas)]
    middle_times = timesteps_at(np.asarray(middles), training_sigmas(schedule)).tolist()

    def run(x: np.ndarray, denoise: Denoise, draw: Draw, begin: Begin = WHOLE) -> Iterator[np.ndarray]:
        flow = Flow(model, denoise)
        for index, timestep in begin.rest(timesteps):
            sigma, middle, sigma_next = sigmas[index], middles[index], sigmas[index + 1]
            clean = flow.clean(x, sigma, timestep)
            if sigma_next == 0:
                x = clean
            else:
                path = draw()
                down, fresh = ancestral(sigma, middle)
                ahead = begin.keep(x + (down / sigma - 1) * (x - clean) + fresh * path, marks[index + 1])
                clean = flow.clean(ahead, middle, middle_times[index])
                share = (sigma - middle) / (sigma - sigma_next)
                path = math.sqrt(share) * path + math.sqrt(1 - share) * draw()
                down, fresh = ancestral(sigma, sigma_next)
                x = x + (down / sigma - 1) * (x - clean) + fresh * path
            x = begin.keep(x, marks[index + 1])
            yield x

    return _two_calls(walked, start_scale(sigmas, settings), run)


def _middle(sigma: float, down: float) -> float:
    """The geometric mean, from logarithms in float32."""
    if down == 0:
        return 0.0
    high, low = np.log(np.float32(sigma)), np.log(np.float32(down))
    return float(np.exp(high + np.float32(0.5) * (low - high)))


def edm_euler(schedule: Schedule, steps: int, settings: SamplerSettings) -> Sampler:
    """Euler's method with the preconditioning of Karras et al. (table 1): one model call a step, shown c_noise."""
    sigmas = edm_sigmas(settings, steps)
    if settings.final_sigmas_type == "sigma_min":
        sigmas = (*sigmas[:-1], sigmas[-2])
    model, marks = Preconditioned.of(schedule, settings, "edm_euler"), sigma_marks(sigmas)

    def run(x: np.ndarray, denoise: Denoise, draw: Draw, begin: Begin = WHOLE) -> Iterator[np.ndarray]:
        for index, (sigma, sigma_next) in begin.rest(list(pairwise(sigmas))):
            clean = model.clean(x, denoise(model.shown(x, sigma), model.timestep(sigma)), sigma)
            x = begin.keep(x + (sigma_next - sigma) * ((x - clean) / sigma), marks[index + 1])
            yield x

    return model.sampler(sigmas, settings, run)


@dataclass(frozen=True, slots=True)
class Preconditioned:
    """A model wrapped as Karras et al. do (arXiv 2206.00364, table 1), for data of standard deviation `sigma_data`."""

    sigma_data: float
    sign: float
    bounds: Prediction

    @classmethod
    def of(cls, schedule: Schedule, settings: SamplerSettings, name: str) -> "Preconditioned":
        """The wrapping for a schedule's prediction; raises InputError for a model that predicts clean latents."""
        _refuse_sample(schedule, name)
        sign = -1.0 if schedule.prediction_type == "v_prediction" else 1.0
        return cls(settings.sigma_data or 1.0, sign, Prediction.of(schedule, settings))

    def shown(self, x: np.ndarray, sigma: float) -> np.ndarray:
        """What the model sees of latents with this noise."""
        return x / math.sqrt(sigma**2 + self.sigma_data**2)

    @staticmethod
    def timestep(sigma: float) -> float:
        """What the model is told of the noise level."""
        return 0.25 * math.log(sigma)

    def clean(self, x: np.ndarray, output: np.ndarray, sigma: float) -> np.ndarray:
        """The clean latents that an output means."""
        variance = sigma**2 + self.sigma_data**2
        out = self.sign * sigma * self.sigma_data / math.sqrt(variance)
        return self.bounds.bounded(self.sigma_data**2 / variance * x + out * output)

    def sampler(self, sigmas: tuple[float, ...], settings: SamplerSettings, run: SamplerRun) -> Sampler:
        """A sampler over these sigmas [n + 1]."""
        timesteps = tuple(self.timestep(sigma) for sigma in sigmas[:-1])

        def clean(shown: np.ndarray, output: np.ndarray, timestep: float) -> np.ndarray:
            sigma = math.exp(4 * timestep)
            return self.clean(shown * math.sqrt(sigma**2 + self.sigma_data**2), output, sigma)

        scale = math.sqrt((settings.sigma_max or 0.0) ** 2 + 1)
        return Sampler(timesteps, scale, run, sigma_marks(sigmas)[:-1], clean=clean, sigmas=sigmas)


def edm_sigmas(settings: SamplerSettings, steps: int) -> tuple[float, ...]:
    """Sigmas [steps + 1] from `sigma_max` to `sigma_min`, then 0; float32 values."""
    largest, smallest = settings.sigma_max or 1.0, settings.sigma_min or 1.0
    if settings.sigma_schedule == "exponential":
        # diffusers counts these from below, so that a run of one step is at the smallest.
        sigmas = np.exp(np.linspace(math.log(smallest), math.log(largest), steps))[::-1]
    else:
        sigmas = karras(largest, smallest, steps, settings.rho or 1.0)
    return (*sigmas.astype(np.float32).tolist(), 0.0)


def _clean_at(model: Prediction, timesteps: tuple[float, ...], sigmas: tuple[float, ...]) -> Callable:
    """Clean latents for previews, at the noise level of the visited timestep that is nearest."""

    def clean(shown: np.ndarray, output: np.ndarray, timestep: float) -> np.ndarray:
        index = int(np.abs(np.asarray(timesteps) - timestep).argmin())
        return model.clean(shown, output, *levels(sigmas[index]))

    return clean


def _refuse_sample(schedule: Schedule, name: str) -> None:
    if schedule.prediction_type == "sample":
        raise InputError(
            f"prediction_type: expected epsilon or v_prediction for the sampler {name}, got sample; use another sampler"
        )
