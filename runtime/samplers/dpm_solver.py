"""Exponential integrators in the log-SNR: DPM-Solver and DPM-Solver++ (Lu et al. 2022, arXiv 2206.00927 and 2211.01095)
with several steps' predictions or several calls a step, and DEIS (Zhang and Chen 2022, arXiv 2204.13902), as diffusers
runs them."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .euler import Preconditioned, edm_sigmas
from .prediction import Prediction, levels
from .sampler import CLEAN, WHOLE, Begin, Denoise, Draw, Level, Sampler, SamplerRun
from .schedule import Schedule
from .settings import SamplerSettings
from .spacing import solver_levels

FEW_STEPS = 15
"""Below so many steps `lower_order_final` ends a run with lower orders."""


@dataclass(frozen=True, slots=True)
class Integrator:
    """One step from a level to another by the exponential integrator, of first to third order.

    `data` says that predictions are clean latents (DPM-Solver++), not noise; `sde` adds fresh noise, as the reverse
    diffusion does. `solver_type` decides the second order's weight: "midpoint" or "heun".
    """

    data: bool
    sde: bool
    solver_type: str

    @classmethod
    def of(cls, settings: SamplerSettings) -> "Integrator":
        """By diffusers' names of the algorithms."""
        algorithm = settings.algorithm_type or ""
        return cls(algorithm.endswith("++"), algorithm.startswith("sde"), settings.solver_type or "")

    def step(
        self, x: np.ndarray, start: Level, end: Level, terms: Sequence[np.ndarray], heun: bool, draw: Draw | None
    ) -> np.ndarray:
        """`x` at `start` moved to `end`. `terms` are the prediction and its scaled differences of first and second
        order, as many as the order is; `heun` weighs the first difference exactly, not at the middle."""
        h = end.log_snr - start.log_snr
        if self.data:
            exponent, scale = (-2 * h if self.sde else -h), end.signal
            keep = end.noise_level / start.noise_level * (math.exp(-h) if self.sde else 1.0)
        else:
            exponent, scale = h, end.noise_level * (2 if self.sde else 1)
            keep = end.signal / start.signal
        whole = math.expm1(exponent)
        x = keep * x - scale * whole * terms[0]
        if len(terms) > 1:
            x = x - scale * (phi(whole, exponent) if heun else whole / 2) * terms[1]
        if len(terms) > 2:
            # Stochastic steps of third order carry this sign in diffusers, against their own derivation.
            half = 0.5 if self.data and self.sde else -0.5
            x = x - scale * ((whole - exponent) / exponent**2 + half if exponent else 0.0) * terms[2]
        if draw is None:
            return x
        grown = -math.expm1(-2 * h) if self.data else math.expm1(2 * h)
        return x + end.noise_level * math.sqrt(max(grown, 0.0)) * draw()


def phi(whole: float, exponent: float) -> float:
    """expm1(z) / z - 1, the weight of a first difference."""
    return whole / exponent - 1 if exponent else 0.0


def dpm_multistep(schedule: Schedule, steps: int, settings: SamplerSettings) -> Sampler:
    """One model call a step, and one draw with an sde algorithm; whole timesteps.

    Raises InputError for what diffusers has no formula for: noise predictions down to no noise, and their stochastic
    steps of third order.
    """
    walked = solver_levels(schedule, steps, settings, cuts_cosine=True)
    model, integrator = Prediction.of(schedule, settings), Integrator.of(settings)
    points = [Level(*levels(sigma)) for sigma in walked.sigmas]
    orders = multistep_orders(steps, settings)
    _refuse_endless(settings, integrator)
    if integrator.sde and not integrator.data:
        _refuse_third(orders, settings)

    def predicted(x: np.ndarray, index: int, denoise: Denoise) -> np.ndarray:
        output = denoise(x, walked.timesteps[index])
        return solver_prediction(model, integrator.data, x, output, points[index])

    run = _multistep(points, orders, integrator, predicted)
    return Sampler(walked.timesteps, 1.0, run, tuple(points[:-1]), sigmas=walked.sigmas)


def edm_dpmpp_2m(schedule: Schedule, steps: int, settings: SamplerSettings) -> Sampler:
    """DPM-Solver++ with the preconditioning of Karras et al.: one model call a step, shown c_noise."""
    sigmas = edm_sigmas(settings, steps)
    if settings.final_sigmas_type == "sigma_min":
        sigmas = (*sigmas[:-1], float(np.float32(settings.sigma_min or 0.0)))
    points = [Level(1.0, sigma) for sigma in sigmas]
    model, integrator = Preconditioned.of(schedule, settings, "edm_dpmpp_2m"), Integrator.of(settings)
    orders = multistep_orders(steps, settings)
    if not integrator.data:
        raise InputError(
            f"algorithm_type: expected dpmsolver++ or sde-dpmsolver++ for the sampler edm_dpmpp_2m, got "
            f"{settings.algorithm_type}; use one of these"
        )
    if integrator.sde:
        _refuse_third(orders, settings)

    def predicted(x: np.ndarray, index: int, denoise: Denoise) -> np.ndarray:
        sigma = sigmas[index]
        return model.clean(x, denoise(model.shown(x, sigma), model.timestep(sigma)), sigma)

    return model.sampler(sigmas, settings, _multistep(points, orders, integrator, predicted))


Predicted = Callable[[np.ndarray, int, Denoise], np.ndarray]


def multistep_orders(steps: int, settings: SamplerSettings) -> list[int]:
    """The order of each step: rising with the predictions there are, and lower at the end of short runs and of those
    that end without noise."""
    most = settings.solver_order or 1
    orders = [min(most, index + 1) for index in range(steps)]
    ends_low = bool(settings.lower_order_final) and steps < FEW_STEPS
    if ends_low or settings.euler_at_final or settings.final_sigmas_type == "zero":
        orders[-1] = 1
    if ends_low and steps > 1:
        orders[-2] = min(orders[-2], 2)
    return orders


def _multistep(points: list[Level], orders: list[int], integrator: Integrator, predicted: Predicted) -> SamplerRun:
    """The walk over levels [n + 1] that remembers the predictions of earlier steps."""
    marks = (*points[:-1], CLEAN)

    def run(x: np.ndarray, denoise: Denoise, draw: Draw, begin: Begin = WHOLE) -> Iterator[np.ndarray]:
        history: list[np.ndarray] = []
        for index, order in begin.rest(orders):
            history = [*history, predicted(x, index, denoise)][-max(orders) :]
            order = min(order, len(history))
            log_snrs = [point.log_snr for point in points[index + 1 - order : index + 2]]
            terms = multistep_terms(history[-order:], log_snrs)
            heun = order == 3 or integrator.solver_type == "heun"
            noise = draw if integrator.sde else None
            x = integrator.step(x, points[index], points[index + 1], terms, heun, noise)
            x = begin.keep(x, marks[index + 1])
            yield x

    return run


def multistep_terms(history: Sequence[np.ndarray], log_snrs: Sequence[float]) -> list[np.ndarray]:
    """The newest prediction and its scaled differences; `log_snrs` are those of the predictions and of the end."""
    newest = history[-1]
    if len(history) == 1:
        return [newest]
    *_, before, start, end = log_snrs
    h, h0 = end - start, start - before
    first = h / h0 * (newest - history[-2])
    if len(history) == 2:
        return [newest, first]
    h1 = before - log_snrs[-4]
    older = h / h1 * (history[-2] - history[-3])
    return [newest, first + h0 / (h0 + h1) * (first - older), h / (h0 + h1) * (first - older)]


def dpm_singlestep(schedule: Schedule, steps: int, settings: SamplerSettings) -> Sampler:
    """Steps of up to three model calls, of which each is one step here: `steps` calls in all; whole timesteps.

    With an sde algorithm each call draws once. Raises InputError as `dpm_multistep` does.
    """
    walked, model = solver_levels(schedule, steps, settings), Prediction.of(schedule, settings)
    points = [Level(*levels(sigma)) for sigma in walked.sigmas]
    integrator = Integrator.of(settings)
    _refuse_endless(settings, integrator)
    orders, marks = singlestep_orders(steps, settings), (*points[:-1], CLEAN)

    def run(x: np.ndarray, denoise: Denoise, draw: Draw, begin: Begin = WHOLE) -> Iterator[np.ndarray]:
        history, start, most = list[np.ndarray](), x, settings.solver_order or 1
        for index, order in begin.rest(orders):
            output = denoise(x, walked.timesteps[index])
            prediction = solver_prediction(model, integrator.data, x, output, points[index])
            history = [*history, prediction][-most:]
            order = min(order, len(history))
            start = x if order == 1 else start
            base = index + 1 - order
            log_snrs = [point.log_snr for point in points[base : index + 2]]
            terms = singlestep_terms(history[-order:], log_snrs, integrator.solver_type)
            heun = order == 3 or integrator.solver_type == "heun"
            noise = draw if integrator.sde else None
            x = integrator.step(start, points[base], points[index + 1], terms, heun, noise)
            x = begin.keep(x, marks[index + 1])
            yield x

    return Sampler(walked.timesteps, 1.0, run, marks[:-1], sigmas=walked.sigmas)


def singlestep_terms(history: Sequence[np.ndarray], log_snrs: Sequence[float], solver_type: str) -> list[np.ndarray]:
    """The oldest prediction and its scaled differences; `log_snrs` are those of the predictions and of the end."""
    oldest = history[0]
    if len(history) == 1:
        return [oldest]
    h = log_snrs[-1] - log_snrs[0]
    r0 = (log_snrs[len(history) - 1] - log_snrs[0]) / h
    last = (history[-1] - oldest) / r0
    if len(history) == 2 or solver_type == "midpoint":
        return [oldest, last]
    r1 = (log_snrs[1] - log_snrs[0]) / h
    middle = (history[1] - oldest) / r1
    return [oldest, (r0 * middle - r1 * last) / (r0 - r1), 2 * (last - middle) / (r0 - r1)]


def singlestep_orders(steps: int, settings: SamplerSettings) -> list[int]:
    """The order of each call; where the count does not divide, or the run ends without noise, the end is of lower
    order, as diffusers has it."""
    order, to_zero = settings.solver_order or 1, settings.final_sigmas_type == "zero"
    rising = list(range(1, order + 1))
    whole, rest = divmod(steps, order)
    orders = rising * whole + rising[:rest]
    if order > 1 and rest == 0 and (settings.lower_order_final or to_zero):
        # The last group loses its highest order and ends on a first.
        orders = [*orders[:-1], 1]
    return [*orders[:-1], 1] if to_zero else orders


def solver_prediction(model: Prediction, data: bool, x: np.ndarray, output: np.ndarray, level: Level) -> np.ndarray:
    """Clean latents, bounded, or noise, that of the bounded clean latents where they are."""
    signal, noise_level = level.signal, level.noise_level
    if data:
        return model.clean(x, output, signal, noise_level)
    if not model.limits:
        return model.noise(x, output, signal, noise_level)
    return (x - signal * model.clean(x, output, signal, noise_level)) / noise_level


def _refuse_endless(settings: SamplerSettings, integrator: Integrator) -> None:
    if not integrator.data and settings.final_sigmas_type == "zero":
        raise InputError(
            f"final_sigmas_type: expected sigma_min with {settings.algorithm_type}, which divides by the last noise "
            "level, got zero; set sigma_min, or use dpmsolver++"
        )


def _refuse_third(orders: list[int], settings: SamplerSettings) -> None:
    if 3 in orders:
        raise InputError(
            f"solver_order: expected 1 or 2 with {settings.algorithm_type} here, got 3; lower it, or take the noise out"
        )


def deis(schedule: Schedule, steps: int, settings: SamplerSettings) -> Sampler:
    """DEIS with polynomials in the logarithm of sigma: one model call a step; whole timesteps. It ends at the
    schedule's first noise level."""
    walked, model = solver_levels(schedule, steps, settings), Prediction.of(schedule, settings)
    sigmas = walked.sigmas if settings.sigmas is None else (*walked.sigmas[:-1], walked.sigmas[-2])
    points = [Level(*levels(sigma)) for sigma in sigmas]
    order, marks = settings.solver_order or 1, (*points[:-1], CLEAN)
    ends_low = bool(settings.lower_order_final) and steps < FEW_STEPS

    def run(x: np.ndarray, denoise: Denoise, draw: Draw, begin: Begin = WHOLE) -> Iterator[np.ndarray]:
        history: list[np.ndarray] = []
        for index, timestep in begin.rest(walked.timesteps[:steps]):
            output = denoise(x, timestep)
            history = [*history, solver_prediction(model, False, x, output, points[index])][-order:]
            left = steps - index
            now = min(len(history), left if ends_low and left < 3 else order)
            start, end = points[index], points[index + 1]
            if now == 1:
                x = Integrator(data=False, sde=False, solver_type="").step(x, start, end, history[-1:], False, None)
            else:
                x = x / start.signal
                for weight, noise in zip(
                    deis_weights(sigmas[index + 1 - now : index + 2]), history[-now:], strict=True
                ):
                    x = x + weight * noise
                x = end.signal * x
            x = begin.keep(x, marks[index + 1])
            yield x

    return Sampler(walked.timesteps, 1.0, run, marks[:-1], sigmas=walked.sigmas)


def deis_weights(sigmas: Sequence[float]) -> list[float]:
    """Integral from the last but one to the last of `sigmas` of each other's Lagrange polynomial in log sigma."""
    logs = np.log(np.asarray(sigmas[:-1], np.float64))
    weights = []
    for index, log in enumerate(logs):
        others = np.delete(logs, index)
        if len(others) == 1:
            (c,) = others
            ends = [t * (math.log(t) - 1 - c) / (log - c) for t in sigmas[-2:]]
        else:
            c, d = others
            ends = [
                t
                * (c * (d - math.log(t) + 1) - d * math.log(t) + d + math.log(t) ** 2 - 2 * math.log(t) + 2)
                / ((log - c) * (log - d))
                for t in sigmas[-2:]
            ]
        weights.append(float(ends[1] - ends[0]))
    return weights
