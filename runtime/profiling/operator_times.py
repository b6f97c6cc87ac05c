"""Seconds by kind of operator, from the backend's own profiler, in calls of their own."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Protocol

import numpy as np

from ..bundle import Bundle
from ..sessions.backends import backend_named
from ..sessions.graph_file import GraphFile
from ..sessions.session import Session, Settings
from .record import Operator, Operators
from .recorder import Called

TIMES = 3
"""Calls of each graph, with the profiler and without in turns."""
NOT_HERE = "{} tells no times of operators here: they are measured on cpu and openvino"


class Profiled(Protocol):
    """A graph opened with the backend's profiler on."""

    def call(self, arrays: dict[str, np.ndarray]) -> None: ...

    def tally(self) -> dict[str, tuple[int, float]]:
        """Operators and seconds by type, all calls together; the session is not called again."""
        ...


def operator_times(
    bundle: Bundle, backend: str, threads: int | None, called: Sequence[Called], plain: Callable[[str], Session]
) -> Operators:
    """All calls of one run, each graph at each set of its shapes; `plain(graph)` is its session without a profiler."""
    name, _, device = backend_named(backend)
    if name not in OPENERS:
        return Operators((), None, NOT_HERE.format(name))
    found: defaultdict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    with_profiler = without = 0.0
    for one in called:
        profiled = OPENERS[name](bundle.graph_file(one.graph), Settings(threads, device), one)
        slow, fast = _in_turns(partial(profiled.call, one.arrays), one.bound(plain(one.graph)))
        with_profiler, without = with_profiler + slow * one.count, without + fast * one.count
        for kind, (number, seconds) in profiled.tally().items():
            entry = found[one.graph, kind]
            # One call more was made to warm up.
            entry[0] += number * one.count / (TIMES + 1)
            entry[1] += seconds * one.count / TIMES
    operators = (Operator(graph, kind, round(n), seconds) for (graph, kind), (n, seconds) in found.items())
    return Operators(tuple(sorted(operators, key=lambda o: -o.seconds)), with_profiler / without - 1)


def _in_turns(first: Callable[[], object], second: Callable[[], object]) -> tuple[float, float]:
    """Median seconds of both."""
    first()
    second()
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(TIMES):
        for work, into in zip((first, second), seconds, strict=True):
            start = time.perf_counter()
            work()
            into.append(time.perf_counter() - start)
    return median(seconds[0]), median(seconds[1])


def _onnxruntime(graph: GraphFile, settings: Settings, one: Called) -> Profiled:
    from .onnxruntime_profiler import OnnxRuntimeProfiled

    return OnnxRuntimeProfiled(graph.path, settings.threads)


def _openvino(graph: GraphFile, settings: Settings, one: Called) -> Profiled:
    from .openvino_profiler import OpenVinoProfiled

    return OpenVinoProfiled(graph, settings, one)


OPENERS: dict[str, Callable[[GraphFile, Settings, Called], Profiled]] = {
    "cpu": _onnxruntime,
    "openvino": _openvino,
}
