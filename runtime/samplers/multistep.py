"""Linear multistep samplers, which step with a blend of their last noise predictions: PLMS, PNDM and LMS."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.polynomial.polynomial import polyfromroots, polyint, polyval

from ..errors import InputError
from .euler import Flow, sigma_marks, start_scale
from .prediction import Prediction, alpha_levels, transfer
from .sampler import CLEAN, WHOLE, Begin, Denoise, Draw, Keep, Level, Sampler
from .schedule import Schedule, alpha_at, whole_alphas
from .settings import SamplerSettings
from .spacing import compvis_starts, compvis_timesteps, interpolated_levels, whole_timesteps

ADAMS_BASHFORTH = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)
RUNGE_KUTTA = (1 / 6, 1 / 3, 1 / 3, 1 / 6)
PRK_STEPS = 3
"""Steps of four model calls with which PNDM fills its history, where it does not skip them."""
ORDER = 4


def extrapolate(history: Sequence[np.ndarray]) -> np.ndarray:
    """The noise to step with, from one to four predictions of equally spaced steps, the newest last."""
    weights = ADAMS_BASHFORTH[len(history) - 1]
    total = weights[0] * history[-1]
    for weight, noise in zip(weights[1:], history[-2::-1], strict=True):
        total += weight * noise
    return total


def plms(schedule: Schedule, steps: int, settings: SamplerSettings) -> Sampler:
    """One model call a step and one more in the first; 30 steps asked of 1000 are 31, ending at timestep 0's alpha.

    The first step averages the noise at its own and at the next timestep; only the former enters the history. Where
    there is no next timestep, a one-step run asks for its own again. A run that begins midway does so, too, and its
    start is noised as `ddim_compvis` has it: CompVis' img2img script knows that sampler alone. Raises InputError for a
    count whose first timestep is past the schedule's end (3, 9, 27 or 300 of 1000, say).
    """
    timesteps = tuple(map(float, compvis_timesteps(schedule, steps)))
    alphas = schedule.alphas_cumprod().tolist()
    visited = [alphas[int(timestep)] for timestep in timesteps]
    reached = [*visited[1:], alphas[0]]
    marks = (*(Level(*alpha_levels(alpha)) for alpha in visited), CLEAN)
    model = Prediction.of(schedule, settings)

    def run(x: np.ndarray, denoise: Denoise, draw: Draw, begin: Begin = WHOLE) -> Iterator[np.ndarray]:
        history: list[np.ndarray] = []
        for index, timestep in begin.rest(timesteps):
            alpha, alpha_next = visited[index], reached[index]
            noise = model.noise(x, denoise(x, timestep), *alpha_levels(alpha))
            if history:
                blend = extrapolate([*history, noise])
            else:
                ahead = transfer(x, noise, alpha, alpha_next)
                output = denoise(ahead, timesteps[min(index + 1, len(timesteps) - 1)])
                blend = (noise + model.noise(ahead, output, *alpha_levels(alpha_next))) / 2
            history = [*history[-2:], noise]
            x = begin.keep(transfer(x, blend, alpha, alpha_next), marks[index + 1])
            yield x

    unasked = len(timesteps) - steps
    return Sampler(timesteps, 1.0, run, compvis_starts(visited), extra_calls=1, unasked=unasked)


def pndm(schedule: Schedule, steps: int, settings: SamplerSettings) -> Sampler:
    """PNDM (Liu et al. 2022, arXiv 2202.09778) as diffusers runs it; one model call for each of its timesteps.

    With `skip_prk_steps` there are `steps` + 1 of them, as the second comes twice: its first visit redoes the first
    step with the mean of both predictions and leaves no trace in the history; a one-step run is one step. Without,
    twelve calls of the Runge-Kutta method stand for the first three, and a run can begin with these alone. Begun
    midway, the timestep behind the first is taken for the one that comes twice. What a model predicts is blended as it
    is, and read as noise where a step is made. Raises InputError for a count whose timesteps leave the schedule.
    """
    if schedule.prediction_type == "sample":
        raise InputError(
            "prediction_type: expected epsilon or v_prediction for the sampler pndm, got sample; use another sampler"
        )
    assert settings.timestep_spacing is not None
    distinct = whole_timesteps(schedule, settings.timestep_spacing, steps)
    walk = _Pndm(schedule, steps, whole_alphas(schedule, distinct), Prediction.of(schedule, settings))
    if settings.skip_prk_steps:
        timesteps: tuple[int, ...] = (*distinct[:2], *distinct[1:])
        marks = walk.marks(timesteps)

        def run(x: np.ndarray, denoise: Denoise, draw: Draw, begin: Begin = WHOLE) -> Iterator[np.ndarray]:
            return walk.plms(x, denoise, timesteps[begin.step :], begin.keep, marks[begin.step :])

        return Sampler(tuple(map(float, timesteps)), 1.0, run, marks[:-1])
    warm_up = walk.warm_up_timesteps(distinct)
    timesteps = (*warm_up, *distinct[PRK_STEPS:])
    marks = walk.marks(timesteps)

    def warmed(x: np.ndarray, denoise: Denoise, draw: Draw, begin: Begin = WHOLE) -> Iterator[np.ndarray]:
        return walk.with_prk(x, denoise, timesteps, begin.keep, marks)

    return Sampler(tuple(map(float, timesteps)), 1.0, warmed, marks[:1])


class _Pndm:
    """PNDM's steps over one schedule."""

    def __init__(self, schedule: Schedule, steps: int, alphas: list[float], model: Prediction):
        self._schedule, self._steps, self._alphas, self._model = schedule, steps, alphas, model
        self._stride = schedule.train_steps // steps

    def marks(self, timesteps: tuple[int, ...]) -> tuple[Level, ...]:
        """The level that each call begins at, and the end's."""
        return (*(Level(*alpha_levels(self._alphas[timestep])) for timestep in timesteps), CLEAN)

    def plms(
        self, x: np.ndarray, denoise: Denoise, timesteps: tuple[int, ...], keep: Keep, marks: tuple[Level, ...]
    ) -> Iterator[np.ndarray]:
        """The walk without a warm-up."""
        start, history = x, list[np.ndarray]()
        for index, timestep in enumerate(timesteps):
            output = denoise(x, float(timestep))
            if index == 1:
                x = self._move(start, (output + history[0]) / 2, timestep + self._stride, timestep)
            else:
                history = [*history[-3:], output]
                x = self._move(x, extrapolate(history), timestep, timestep - self._stride)
            x = keep(x, marks[index + 1])
            yield x

    def warm_up_timesteps(self, distinct: tuple[int, ...]) -> tuple[int, ...]:
        """The timesteps of the Runge-Kutta calls: each step's own, twice its middle, and its end."""
        if self._steps <= PRK_STEPS:
            raise InputError(
                f"steps: expected {PRK_STEPS + 1} or more for the sampler pndm without skip_prk_steps, got "
                f"{self._steps}; ask for more, or set skip_prk_steps"
            )
        half = self._stride // 2
        ends = [each for timestep in distinct[: PRK_STEPS + 1] for each in (timestep + half, timestep)][1:]
        if ends[1] >= self._schedule.train_steps or max(ends) >= self._schedule.train_steps:
            raise InputError(
                f"steps: expected a count whose Runge-Kutta timesteps end before {self._schedule.train_steps}, got "
                f"{self._steps}; ask for another count, or set skip_prk_steps"
            )
        return tuple(each for timestep in ends for each in (timestep, timestep))[1:-1]

    def with_prk(
        self, x: np.ndarray, denoise: Denoise, timesteps: tuple[int, ...], keep: Keep, marks: tuple[Level, ...]
    ) -> Iterator[np.ndarray]:
        """The walk after the Runge-Kutta warm-up."""
        history, start, total = list[np.ndarray](), x, np.zeros_like(x)
        for index, timestep in enumerate(timesteps[: 4 * PRK_STEPS]):
            call = index % 4
            output = denoise(x, float(timestep))
            if call == 0:
                start, total = x, np.zeros_like(x)
                history.append(output)
            total = total + RUNGE_KUTTA[call] * output
            after = timestep - (0 if call % 2 else self._stride // 2)
            x = keep(
                self._move(start, total if call == 3 else output, timesteps[index - call], after), marks[index + 1]
            )
            yield x
        for index, timestep in enumerate(timesteps[4 * PRK_STEPS :], 4 * PRK_STEPS):
            history = [*history[-3:], denoise(x, float(timestep))]
            x = self._move(x, extrapolate(history), timestep, timestep - self._stride)
            x = keep(x, marks[index + 1])
            yield x

    def _move(self, x: np.ndarray, output: np.ndarray, timestep: int, after: int) -> np.ndarray:
        alpha = self._alphas[timestep]
        noise = self._model.noise(x, output, *alpha_levels(alpha))
        return transfer(x, noise, alpha, alpha_at(self._schedule, self._alphas, after))


def lms(schedule: Schedule, steps: int, settings: SamplerSettings) -> Sampler:
    """One model call a step, at timesteps with fractions; spaced by linspace, a one-step run starts at the smallest
    noise level.

    Begun midway, it gives its first slopes the weights that they would have behind others, as diffusers does.
    """
    walked, model = interpolated_levels(schedule, steps, settings), Prediction.of(schedule, settings)
    timesteps, sigmas, marks = walked.timesteps, walked.sigmas, sigma_marks(walked.sigmas)

    def run(x: np.ndarray, denoise: Denoise, draw: Draw, begin: Begin = WHOLE) -> Iterator[np.ndarray]:
        flow, history = Flow(model, denoise), list[np.ndarray]()
        for index, timestep in begin.rest(timesteps):
            history = [*history[1 - ORDER :], flow.slope(x, sigmas[index], timestep)]
            nodes = sigmas[max(index + 1 - ORDER, 0) : index + 1]
            weights = lagrange_integrals(nodes, sigmas[index + 1])[-len(history) :]
            for weight, noise in zip(weights, history, strict=True):
                x = x + weight * noise
            x = begin.keep(x, marks[index + 1])
            yield x

    return Sampler(timesteps, start_scale(sigmas, settings), run, marks[:-1], sigmas=sigmas)


def lagrange_integrals(nodes: Sequence[float], end: float) -> list[float]:
    """Integral from the last node to `end` of each node's Lagrange polynomial, exact up to float64 rounding."""
    # Measured from the last node: in powers of sigma itself, neighbouring nodes would cancel.
    shifted = np.asarray(nodes) - nodes[-1]
    weights = []
    for index, node in enumerate(shifted):
        others = np.delete(shifted, index)
        antiderivative = polyint(polyfromroots(others))
        weights.append(float(polyval(end - nodes[-1], antiderivative)) / math.prod((node - others).tolist()))
    return weights
