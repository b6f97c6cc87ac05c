"""Adams-Bashforth extrapolation, which PLMS and PNDM make of their last noise predictions."""

from collections.abc import Sequence

import numpy as np

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
