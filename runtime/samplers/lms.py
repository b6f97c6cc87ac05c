"""Linear multistep of order 4 over noise levels (K. Crowson's k-diffusion), as diffusers runs it."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.polynomial.polynomial import polyfromroots, polyint, polyval

from .levels import linspace_sigmas, unit_variance
from .sampler import Denoise, Draw, Sampler
from .schedule import Schedule

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
