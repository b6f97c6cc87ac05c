"""Seconds by kind of operator, from the backends' own profilers, in calls of their own; here ONNX Runtime's."""

import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np
import onnxruntime

from ..bundle.reader import Bundle
from ..errors import InputError
from ..files.staging import staging_folder
from ..sessions.backends import backend_named
from ..sessions.onnxruntime_cpu import session_options
from ..sessions.session import GraphFile, Session, Settings, library_edge
from .record import Operator, Operators
from .recorder import CapturedCall

PRODUCTS = ("MatMul", "Gemm")


class OnnxRuntimeProfiled:
    """A graph on the CPU, opened as the backend does without an engine, but with the profiler on; the first call warms
    up.

    `as_written` leaves the graph as it is in the file, with no operators fused and no weights packed.
    """

    def __init__(self, path: Path, threads: int | None, as_written: bool = False):
        self._staging = ExitStack()
        folder = self._staging.enter_context(staging_folder(Path(tempfile.gettempdir()), "profile"))
        chosen = session_options(threads)
        chosen.enable_profiling = True
        chosen.profile_file_prefix = str(folder / "operators")
        if as_written:
            chosen.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            chosen.add_session_config_entry("session.disable_prepacking", "1")
        refused = f"{path}: ONNX Runtime {onnxruntime.__version__} cannot open this graph"
        with library_edge(lambda why: InputError(f"{refused}: {why}; export it again")):
            self._session = onnxruntime.InferenceSession(str(path), chosen, providers=["CPUExecutionProvider"])

    def call(self, arrays: dict[str, np.ndarray]) -> None:
        """Runs the graph once on all its inputs."""
        self._session.run(None, arrays)

    def tally(self) -> dict[str, tuple[int, float]]:
        """Operators of all calls by type, and their seconds without the first call's; ends the profiling."""
        events = self.events()
        calls = [event["ts"] for event in events if event["name"] == "model_run"]
        warm = sorted(calls)[1]
        found: defaultdict[str, list[float]] = defaultdict(lambda: [0, 0.0])
        for event in _nodes(events):
            entry = found[event["args"]["op_name"]]
            entry[0] += 1
            entry[1] += event["dur"] / 1e6 if event["ts"] >= warm else 0
        return {kind: (int(number), seconds) for kind, (number, seconds) in found.items()}

    def events(self) -> list[dict[str, Any]]:
        """All that was noted; ends the profiling."""
        events = json.loads(Path(self._session.end_profiling()).read_text("utf-8"))
        self._staging.close()
        return events


def products(path: Path, arrays: dict[str, np.ndarray]) -> int:
    """Multiplications with their additions in the matrix products and convolutions of one call, counted from the shapes
    that they have in it. The graph is run once, as written; raises InputError where ONNX Runtime cannot."""
    session = OnnxRuntimeProfiled(path, None, as_written=True)
    refused = f"{path}: ONNX Runtime cannot run this graph as it is written"
    with library_edge(lambda why: InputError(f"{refused}: {why}; leave the operators out (--no-operators)")):
        session.call(arrays)
    return sum(_macs(event["args"]) for event in _nodes(session.events()))


def _nodes(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["cat"] == "Node" and event["name"].endswith("_kernel_time")]


def _macs(node: dict[str, Any]) -> int:
    kind = node["op_name"]
    if kind not in (*PRODUCTS, "Conv", "ConvTranspose"):
        return 0
    first, second = (_shape(value) for value in node["input_type_shape"][:2])
    made = prod(_shape(node["output_type_shape"][0]))
    if kind == "Conv":
        return made * prod(second[1:])
    if kind == "ConvTranspose":
        return prod(first) * prod(second[1:])
    # Whichever way they lie, (rows x inner) (inner x columns) (rows x columns) is (rows x inner x columns) squared.
    shared = prod(_shape(node["output_type_shape"][0])[:-2]) if len(second) > 2 else 1
    return round((prod(first) * prod(second) * made / shared) ** 0.5)


def _shape(value: dict[str, list[int]]) -> list[int]:
    (shape,) = value.values()
    return shape


TIMES = 3
"""Calls of each graph, with the profiler and without in turns."""
NOT_HERE = "{} tells no times of operators here: they are measured on cpu and openvino"


class Profiled(Protocol):
    """A graph opened with the backend's profiler on."""

    def call(self, arrays: dict[str, np.ndarray]) -> None:
        """Runs the graph once on these inputs, by name."""

    def tally(self) -> dict[str, tuple[int, float]]:
        """Operators and seconds by type, all calls together; the session is not called again."""
        ...


def operator_times(
    bundle: Bundle, backend: str, settings: Settings, called: Iterable[CapturedCall], plain: Callable[[str], Session]
) -> Operators:
    """All calls of one run, each graph at each set of its shapes; `plain(graph)` is its session without a profiler."""
    name, _, device = backend_named(backend)
    if name not in OPENERS:
        return Operators((), None, NOT_HERE.format(name))
    found: defaultdict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    with_profiler = without = 0.0
    for one in called:
        profiled = OPENERS[name](bundle.graph_file(one.graph), replace(settings, device=device), one)
        slow, fast = _in_turns(partial(profiled.call, one.arrays), one.replay(plain(one.graph)))
        with_profiler, without = with_profiler + slow * one.count, without + fast * one.count
        for kind, (number, seconds) in profiled.tally().items():
            entry = found[one.graph, kind]
            # One call more was made to warm up.
            entry[0] += number * one.count / (TIMES + 1)
            entry[1] += seconds * one.count / TIMES
    operators = (Operator(graph, kind, round(n), seconds) for (graph, kind), (n, seconds) in found.items())
    overhead = with_profiler / without - 1 if without else None
    return Operators(tuple(sorted(operators, key=lambda o: -o.seconds)), overhead)


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


def _onnxruntime(graph: GraphFile, settings: Settings, one: CapturedCall) -> Profiled:
    return OnnxRuntimeProfiled(graph.path, settings.threads)


def _openvino(graph: GraphFile, settings: Settings, one: CapturedCall) -> Profiled:
    # Only this backend has the package.
    from .openvino_operators import OpenVinoProfiled

    return OpenVinoProfiled(graph, settings, one)


OPENERS: dict[str, Callable[[GraphFile, Settings, CapturedCall], Profiled]] = {
    "cpu": _onnxruntime,
    "openvino": _openvino,
}
