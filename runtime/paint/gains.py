"""How strongly painted words count at a noise level."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

PaintForm = Literal["max", "std", "std_sq"]
PAINT_FORMS: tuple[PaintForm, ...] = get_args(PaintForm)
USUAL_STRENGTHS: dict[PaintForm, float] = {"max": 0.1, "std": 0.4, "std_sq": 0.4}
"""The strength where none is given: the port's default, and what it names beside its other forms."""


@dataclass(frozen=True, slots=True)
class PaintGains:
    """The factors of a map's weights: `strength` times ln(1 + sigma), in the form "std_sq" ln(1 + sigma^2), of the
    scores' maximum ("max", eDiff-I's own, arXiv 2211.01324) or of their standard deviation.

    `std` and `std_sq` are those of the public Stable Diffusion port (cloneofsimo/paint-with-words-sd).
    """

    strength: float
    form: PaintForm

    def at(self, sigma: float, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Factors of maximum and deviation, float32 [rows] each, at a noise level per unit of signal."""
        gain = self.strength * math.log1p(sigma**2 if self.form == "std_sq" else sigma)
        maximum, deviation = (gain, 0.0) if self.form == "max" else (0.0, gain)
        return np.full(rows, maximum, np.float32), np.full(rows, deviation, np.float32)


def paint_variant(graph: str) -> str:
    """The name of the graph that takes painted words in the place of another."""
    return f"{graph}.paint"


@dataclass(frozen=True, slots=True)
class Painted:
    """What is painted in a run: into which graphs, by which factors. The maps are slots."""

    graphs: frozenset[str]
    gains: PaintGains
