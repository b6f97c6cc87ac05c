"""Measured seconds, and what is said of them."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Samples:
    """Seconds, one for each time that something was measured."""

    all: tuple[float, ...]

    def percentile(self, percent: float) -> float:
        """Linear between the two nearest, as numpy takes it."""
        return float(np.percentile(self.all, percent))

    @property
    def p50(self) -> float:
        return self.percentile(50)

    @property
    def p95(self) -> float:
        return self.percentile(95)
