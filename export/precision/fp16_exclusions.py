"""Which parts of a graph have to stay in float32, found by measurement.

What a part does in half is computed by rounding where a device would, since a CPU may not (see `rounded`). Parts whose
numbers come near the largest float16 are kept in any case: another prompt or seed would take them past it. Of the
others few are kept with which the graph passes its gate: all are kept at first, then runs of them are let go as
long as the gate holds, half of them at once, then quarters, and so on (delta debugging, after Zeller and Hildebrandt).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import GateError
from ..graphs.part_names import check_fit, grouped, is_under, shortest_names
from .fp16_probe import Fp16Probe
from .weight_rounding import FP16_LARGEST

HEADROOM = 8.0
"""How much larger than on the proof's inputs a number may get before it passes the largest float16."""
TRIALS = 96
"""Runs of the graph that a search may take."""
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Exclusions:
    """The parts to keep by name, and the error of the graph in half without them and with them.

    Errors are the largest |half - torch| as a share of the output's standard deviation, inf where a number is none.
    `peaks` holds the numbers of those kept for their size. `trials` counts runs.
    """

    kept: tuple[str, ...]
    before: float
    after: float
    peaks: dict[str, float]
    trials: int


def find_excluded(
    source: Path, inputs: Arrays, expected: Arrays, gate: float, keep: Collection[str] = (), trials: int = TRIALS
) -> Exclusions:
    """The parts of a float32 graph to hand to `half.rewrite` so that its error is at most `gate`.

    `inputs` and `expected` are one call and its fp32 outputs; `keep` names parts that are kept without asking.
    Raises GateError if not even the float32 graph passes, PlanError for names that fit nothing.
    """
    graph = Fp16Probe(source)
    check_fit(keep, graph.paths)
    errors: dict[frozenset[str], float] = {}

    def error(kept: Collection[str]) -> float:
        key = frozenset(kept)
        if key not in errors:
            errors[key] = largest_error(graph(inputs, key), expected)
        return errors[key]

    asked = [path for path in graph.paths if is_under(path, keep)]
    before = error(asked)
    large = {path: peak for path, peak in graph.peaks(inputs).items() if peak > FP16_LARGEST / HEADROOM}
    fixed = [path for path in graph.paths if path in large or path in asked]
    searched = _search(graph.paths, fixed, lambda kept: error(kept) <= gate, trials)
    if searched is None:
        raise GateError(
            f"{source}: expected an error of at most {gate:.3g} with all in float32, got {error(graph.paths):.3g}"
        )
    kept = [path for path in graph.paths if path in {*fixed, *searched}]
    return Exclusions(shortest_names(kept, graph.paths), before, error(kept), large, len(errors))


def largest_error(actual: Arrays, expected: Arrays) -> float:
    """Largest |actual - expected| of all outputs over that output's standard deviation; NaN counts as infinite."""
    worst = 0.0
    for name, array in expected.items():
        if not np.isfinite(actual[name]).all():
            return float("inf")
        worst = max(worst, float(np.abs(actual[name] - array).max() / (array.std() or 1.0)))
    return worst


def _search(
    paths: Sequence[str], fixed: Sequence[str], passes: Callable[[Collection[str]], bool], trials: int
) -> list[str] | None:
    """What to keep beside `fixed`: parts first, then single operations of those parts. None where nothing passes."""
    left = Trials(trials, lambda kept: passes({*fixed, *kept}))
    if left.passes([]):
        return []
    free = [path for path in paths if path not in fixed]
    if not left.passes(free):
        return None
    parts = _delta_debug(list(grouped(free).values()), left)
    return [path for item in _delta_debug([[path] for part in parts for path in part], left) for path in item]


class Trials:
    """A test of what is kept, for so many times; after that nothing passes, so that a search ends with what it has."""

    def __init__(self, count: int, passes: Callable[[Collection[str]], bool]):
        self._left, self._passes = count, passes

    def passes(self, kept: Collection[str]) -> bool:
        self._left -= 1
        return self._left >= 0 and self._passes(kept)


def _delta_debug(items: list[list[str]], left: Trials) -> list[list[str]]:
    """The items that are still kept after each run of them was let go where that passes."""
    size = len(items)
    while size := size // 2:
        start = 0
        while start < len(items):
            fewer = items[:start] + items[start + size :]
            if left.passes([path for item in fewer for path in item]):
                items = fewer
            else:
                start += size
    return items
