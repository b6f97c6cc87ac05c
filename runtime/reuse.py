"""What each call of the denoiser computes anew and what it takes over: the bookkeeping of a preset within one run."""

from dataclasses import dataclass

import numpy as np

from .preset import Preset
from .variants import CROSS, Variant, is_of


@dataclass(frozen=True, slots=True)
class Way:
    """How one call is made: rows of the guidance, the features it gives and those it takes, how far it is thinned."""

    sides: int
    gives: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    thinned: int = 1

    def variant(self, graph: str) -> Variant:
        """The graph that stands for a segment's `graph` in this call."""
        return Variant(graph, self.gives, self.takes, self.thinned)


class Reuse:
    """The state of one run: `next` says how a call is made, `keep` is told what came out.

    `sides` are the run's rows of guidance; `last_segment` is the number of the plan's last segment, before which the
    cross-attention is never frozen.
    """

    def __init__(self, preset: Preset, sides: int, last_segment: int):
        self._preset, self._sides, self._last_segment = preset, sides, last_segment
        self._kept: dict[str, np.ndarray] = {}
        self._full: tuple[int, int] | None = None
        """Segment and sides of the last call that computed everything; None before the first."""
        self._shallow = 0
        """Calls since then."""
        self._frozen = False

    def next(self, segment: int, timestep: float) -> Way:
        preset, feature = self._preset, self._preset.feature
        freezes = preset.frozen_from is not None and not self._frozen
        freezes = freezes and segment == self._last_segment and timestep <= (preset.frozen_from or 0)
        sides = 1 if self._frozen or not self._guided(timestep) else self._sides
        takes = (CROSS,) if self._frozen else ()
        if feature is not None and not freezes and self._serves(segment, sides):
            self._shallow += 1
            return Way(sides, (), (feature, *takes), preset.thinned)
        self._full, self._shallow = (segment, sides), 0
        gives = (() if feature is None else (feature,)) + ((CROSS,) if freezes else ())
        self._frozen = self._frozen or freezes
        return Way(sides, gives, takes, preset.thinned)

    def keep(self, way: Way, outputs: dict[str, np.ndarray]) -> None:
        """Keeps what a call gave; of the cross-attention the mean of the guidance's rows."""
        for name, array in outputs.items():
            if is_of(name, CROSS):
                self._kept[name] = array.reshape(way.sides, -1, *array.shape[1:]).mean(axis=0)
            elif any(is_of(name, feature) for feature in way.gives):
                self._kept[name] = array

    def taken(self, way: Way, rows: int) -> dict[str, np.ndarray]:
        """The kept tensors that a call of so many rows takes: of both sides' rows the conditional come last."""
        return {name: array[-rows:] for name, array in self._kept.items() if any(is_of(name, f) for f in way.takes)}

    def _serves(self, segment: int, sides: int) -> bool:
        """Whether the last full call can stand in: not past its time, of the same segment, with the rows needed."""
        if self._full is None or self._shallow + 1 >= self._preset.every:
            return False
        return self._full[0] == segment and self._full[1] >= sides

    def _guided(self, timestep: float) -> bool:
        guided = self._preset.guided
        return guided is None or guided[0] >= timestep >= guided[1]
