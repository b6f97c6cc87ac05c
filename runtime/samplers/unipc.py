"""UniPC (Zhao et al. 2023, arXiv 2302.04867): a predictor and a corrector of any order, as diffusers runs it."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from ..errors import InputError
from .dpm_solver import solver_prediction
from .prediction import Prediction, levels
from .sampler import CLEAN, WHOLE, Begin, Denoise, Draw, Level, Sampler
from .schedule import Schedule
from .settings import SamplerSettings
from .spacing import solver_levels


def unipc(schedule: Schedule, steps: int, settings: SamplerSettings) -> Sampler:
    """One model call a step, whose output corrects the last step before it predicts the next; whole timesteps.

    `solver_type` is the paper's B(h): "bh1" (h) or "bh2" (expm1 h). Raises InputError for a run to no noise that bh1,
    noise predictions or a last step of higher order would divide by.
    """
    _refuse_endless(settings, steps)
    walked = solver_levels(schedule, steps, settings)
    order, data = settings.solver_order or 1, bool(settings.predict_x0)
    # diffusers bounds clean latents, and those alone.
    model = Prediction.of(schedule, settings if data else SamplerSettings())
    sigmas = walked.sigmas
    if settings.sigmas is not None and settings.final_sigmas_type == "sigma_min":
        sigmas = (*sigmas[:-1], sigmas[-2])
    points = [Level(*levels(sigma)) for sigma in sigmas]
    uncorrected, marks = set(settings.disable_corrector or ()), (*points[:-1], CLEAN)
    update = _Update(points, data, settings.solver_type or "")

    def run(x: np.ndarray, denoise: Denoise, draw: Draw, begin: Begin = WHOLE) -> Iterator[np.ndarray]:
        history, start, last_order = list[np.ndarray](), x, 0
        for index, timestep in begin.rest(walked.timesteps[:steps]):
            output = denoise(x, timestep)
            prediction = solver_prediction(model, data, x, output, points[index])
            if index > begin.step and index - 1 not in uncorrected:
                x = update.step(start, index - 1, history, last_order, prediction)
            history = [*history, prediction][-order:]
            most = min(order, steps - index) if settings.lower_order_final else order
            last_order, start = min(most, len(history)), x
            x = begin.keep(update.step(start, index, history, last_order, None), marks[index + 1])
            yield x

    return Sampler(walked.timesteps, 1.0, run, marks[:-1], sigmas=sigmas)


class _Update:
    """One step over levels [n + 1], predicted, or corrected by the prediction made at its end."""

    def __init__(self, points: Sequence[Level], data: bool, solver_type: str):
        self._points, self._data, self._solver_type = points, data, solver_type

    def step(
        self, x: np.ndarray, index: int, history: Sequence[np.ndarray], order: int, reached: np.ndarray | None
    ) -> np.ndarray:
        """`x` at level `index` moved to the next; `history` are the predictions up to it, the newest last."""
        start, end, newest = self._points[index], self._points[index + 1], history[-1]
        h = end.log_snr - start.log_snr
        if h == 0:
            # Karras' and the other rules end with their smallest level twice.
            return x
        exponent = -h if self._data else h
        whole = math.expm1(exponent)
        keep = end.noise_level / start.noise_level if self._data else end.signal / start.signal
        scale = end.signal if self._data else end.noise_level
        ratios = [(self._points[index - back].log_snr - start.log_snr) / h for back in range(1, order)]
        differences = [(history[-1 - back] - newest) / ratio for back, ratio in enumerate(ratios, start=1)]
        if reached is not None:
            differences.append(reached - newest)
        x = keep * x - scale * whole * newest
        if differences:
            size = exponent if self._solver_type == "bh1" else whole
            weights = _weights([*ratios, 1.0], exponent, size, corrects=reached is not None)
            for weight, difference in zip(weights, differences, strict=True):
                x = x - scale * size * weight * difference
        return x


def _weights(ratios: Sequence[float], exponent: float, size: float, corrects: bool) -> list[float]:
    """The weights of the differences: those that make the step exact for polynomials up to its order.

    diffusers fixes the predictor's of second order and the corrector's of first at one half.
    """
    order = len(ratios)
    if (corrects and order == 1) or (not corrects and order == 2):
        return [0.5]
    remainder, factorial, wanted = math.expm1(exponent) / exponent - 1, 1, []
    for power in range(1, order + 1):
        wanted.append(remainder * factorial / size)
        factorial *= power + 1
        remainder = remainder / exponent - 1 / factorial
    matrix = np.vander(np.asarray(ratios), increasing=True).T
    kept = order if corrects else order - 1
    return np.linalg.solve(matrix[:kept, :kept], np.asarray(wanted[:kept])).tolist()


def _refuse_endless(settings: SamplerSettings, steps: int) -> None:
    if settings.final_sigmas_type != "zero":
        return
    problems = []
    if not settings.predict_x0:
        problems.append("predict_x0: expected true with final_sigmas_type zero, got false; set sigma_min")
    if settings.solver_type == "bh1":
        problems.append("solver_type: expected bh2 with final_sigmas_type zero, got bh1; set sigma_min")
    if not settings.lower_order_final and settings.solver_order != 1 and steps > 1:
        problems.append("lower_order_final: expected true with final_sigmas_type zero, got false; set sigma_min")
    if problems:
        raise InputError(*problems)
