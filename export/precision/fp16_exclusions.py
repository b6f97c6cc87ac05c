"""Which parts of a graph have to stay in float32, found by measurement.

Half precision is emulated, since a CPU does not round where a device would (see `fp16_emulation`). Parts whose numbers
come near the largest float16 are excluded in any case: another prompt or seed would take them past it. The search
excludes few of the others: it starts from all of them and takes runs of them off the list as long as the graph passes
its gate, half of them at once, then quarters, and so on (delta debugging, Zeller and Hildebrandt 2002).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import GateError
from ..graphs.part_names import check_names, is_under, paths_by_part, shortest_names
from .fp16_probe import Fp16Probe
from .weight_rounding import LARGEST_FP16

HEADROOM = 8.0
"""The factor by which numbers may grow, from the proof's inputs to others, before they pass the largest float16."""
TRIALS = 96
"""Runs of the graph that a search may take."""
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Exclusions:
    """The parts that stay in float32 by name, and the error of the graph in half before and after excluding them.

    Errors are the largest |half - torch| as a share of the output's standard deviation, inf where an output is NaN or
    infinite. `peaks` holds the largest number of the parts excluded for their size. `trials` counts runs.
    """

    excluded: tuple[str, ...]
    before: float
    after: float
    peaks: dict[str, float]
    trials: int


def find_excluded(
    source: Path, inputs: Arrays, expected: Arrays, gate: float, keep_fp32: Collection[str] = (), trials: int = TRIALS
) -> Exclusions:
    """The parts of a float32 graph to hand to `fp16.to_fp16` so that its error is at most `gate`.

    `inputs` and `expected` are one call and its fp32 outputs; `keep_fp32` names parts that are excluded in any case.
    Raises GateError if not even the float32 graph passes, PlanError for names that fit nothing.
    """
    graph = Fp16Probe(source)
    check_names(keep_fp32, graph.paths)
    errors: dict[frozenset[str], float] = {}

    def error(excluded: Collection[str]) -> float:
        key = frozenset(excluded)
        if key not in errors:
            errors[key] = largest_error(graph(inputs, key), expected)
        return errors[key]

    named = [path for path in graph.paths if is_under(path, keep_fp32)]
    before = error(named)
    large = {path: peak for path, peak in graph.peaks(inputs).items() if peak > LARGEST_FP16 / HEADROOM}
    fixed = [path for path in graph.paths if path in large or path in named]
    searched = _search(graph.paths, fixed, lambda excluded: error(excluded) <= gate, trials)
    if searched is None:
        raise GateError(
            f"{source}: expected an error of at most {gate:.3g} with all in float32, got {error(graph.paths):.3g}"
        )
    excluded = [path for path in graph.paths if path in {*fixed, *searched}]
    return Exclusions(shortest_names(excluded, graph.paths), before, error(excluded), large, len(errors))


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
    """What to exclude beside `fixed`: parts first, then single operations of those parts. None where nothing passes."""
    left = Trials(trials, lambda excluded: passes({*fixed, *excluded}))
    if left.passes([]):
        return []
    free = [path for path in paths if path not in fixed]
    if not left.passes(free):
        return None
    parts = _delta_debug(list(paths_by_part(free).values()), left)
    return [path for item in _delta_debug([[path] for part in parts for path in part], left) for path in item]


class Trials:
    """A test of what is excluded, for so many times; then nothing passes, so that a search ends with what it has."""

    def __init__(self, count: int, passes: Callable[[Collection[str]], bool]):
        self._left, self._passes = count, passes

    def passes(self, excluded: Collection[str]) -> bool:
        """Whether the graph passes with these paths in float32; False once the trials are used up."""
        self._left -= 1
        return self._left >= 0 and self._passes(excluded)


def _delta_debug(items: list[list[str]], left: Trials) -> list[list[str]]:
    """The items that remain when every run of them that can go has gone."""
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
