"""Linear multistep samplers, which step with a blend of their last noise predictions: PLMS, PNDM and LMS."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.polynomial.polynomial import polyfromroots, polyint, polyval

from .sampler import Denoise, Draw, Sampler
from .schedule import Schedule, alpha_at, alphas_cumprod, compvis, leading, linspace_sigmas, transfer, unit_variance

ADAMS_BASHFORTH = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


def extrapolate(history: Sequence[np.ndarray]) -> np.ndarray:
    """The noise to step with, from one to four predictions of equally spaced steps, the newest last."""
    weights = ADAMS_BASHFORTH[len(history) - 1]
    total = weights[0] * history[-1]
    for weight, noise in zip(weights[1:], history[-2::-1], strict=True):
        total += weight * noise
    return total


def plms(schedule: Schedule, steps: int) -> Sampler:
    """One model call a step and one more in the first; 30 steps asked of 1000 are 31, ending at timestep 0's alpha.

    The first step averages the noise at its own and at the next timestep; only the former enters the history. Where
    there is no next timestep, a one-step run asks for its own again. Raises InputError for a count whose first
    timestep is past the schedule's end (3, 9, 27 or 300 of 1000, say).
    """
    timesteps = tuple(map(float, compvis(schedule, steps)))
    alphas = schedule.alphas_cumprod().tolist()
    visited = [alphas[int(timestep)] for timestep in timesteps]
    reached = [*visited[1:], alphas[0]]

    def run(x: np.ndarray, denoise: Denoise, draw: Draw) -> Iterator[np.ndarray]:
        history: list[np.ndarray] = []
        for timestep, alpha, alpha_next in zip(timesteps, visited, reached, strict=True):
            noise = denoise(x, timestep)
            if history:
                blend = extrapolate([*history, noise])
            else:
                ahead = transfer(x, noise, alpha, alpha_next)
                blend = (noise + denoise(ahead, timesteps[min(1, len(timesteps) - 1)])) / 2
            history = [*history[-2:], noise]
            x = transfer(x, blend, alpha, alpha_next)
            yield x

    return Sampler(timesteps, 1.0, run, extra_calls=1)


def pndm(schedule: Schedule, steps: int) -> Sampler:
    """`steps` + 1 steps of one model call each, as the second timestep comes twice; a one-step run is one step.

    The first visit of the second timestep redoes the first step with the mean of both predictions and leaves no
    trace in the history. Raises InputError for a count whose first timestep is past the schedule's end.
    """
    distinct = leading(schedule, steps)
    timesteps = (*distinct[:2], *distinct[1:])
    stride = schedule.train_steps // steps
    alphas = alphas_cumprod(schedule).tolist()

    def run(x: np.ndarray, denoise: Denoise, draw: Draw) -> Iterator[np.ndarray]:
        start = x
        history: list[np.ndarray] = []
        for index, timestep in enumerate(timesteps):
            noise = denoise(x, float(timestep))
            if index == 1:
                x = transfer(start, (noise + history[0]) / 2, alphas[timesteps[0]], alphas[timestep])
            else:
                history = [*history[-3:], noise]
                x = transfer(x, extrapolate(history), alphas[timestep], alpha_at(schedule, alphas, timestep - stride))
            yield x

    return Sampler(tuple(map(float, timesteps)), 1.0, run)


ORDER = 4


def lms(schedule: Schedule, steps: int) -> Sampler:
    """One model call a step, at timesteps with fractions; a one-step run starts at the smallest noise level."""
    timesteps, sigmas = linspace_sigmas(schedule, steps)

    def run(x: np.ndarray, denoise: Denoise, draw: Draw) -> Iterator[np.ndarray]:
        history: list[np.ndarray] = []
        for index, (timestep, sigma) in enumerate(zip(timesteps, sigmas, strict=False)):
            history = [*history[1 - ORDER :], denoise(unit_variance(x, sigma), timestep)]
            nodes = sigmas[index + 1 - len(history) : index + 1]
            for weight, noise in zip(lagrange_integrals(nodes, sigmas[index + 1]), history, strict=True):
                x = x + weight * noise
            yield x

    return Sampler(timesteps, sigmas[0], run)


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
