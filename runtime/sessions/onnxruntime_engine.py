"""What ONNX Runtime has made of a graph for this machine's CPU: joined operators, and weights in the order that its
kernels read, which are mapped from the disk instead of being copied.

One file: the weights, then the graph that names them by this file, then the graph's length.
"""

import struct
import time
import warnings
from pathlib import Path

import onnxruntime

from ..engines import host_cpu, store
from ..engines.key import EngineKey
from ..engines.memory import peak_bytes
from ..errors import EngineWarning, InputError
from .graph_file import GraphFile

LIBRARY = "onnxruntime"
_LENGTH = struct.Struct("<Q")
_SMALLEST = "1024"
"""Bytes of a weight that is not kept in the graph itself."""


def build(graph: GraphFile) -> Path:
    """Prepares a graph and keeps it in the bundle's engines; returns the file.

    Raises InputError where ONNX Runtime cannot open the graph; then nothing is left behind.
    """
    from .onnxruntime_cpu import ONNX_RUNTIME_ERRORS, options

    assert graph.engines is not None and graph.digest, "an engine without a bundle to keep it in"
    wanted, start = key(graph), time.perf_counter()
    with store.unfinished(graph.engines) as folder:
        made, prepared = folder / f"{wanted.stem}.engine", folder / "graph.onnx"
        made.touch()
        chosen = options()
        chosen.optimized_model_filepath = str(prepared)
        for name, value in {
            "optimized_model_external_initializers_file_name": made.name,
            "optimized_model_external_initializers_min_size_in_bytes": _SMALLEST,
            "save_external_prepacked_constant_initializers": "1",
        }.items():
            chosen.add_session_config_entry(f"session.{name}", value)
        try:
            onnxruntime.InferenceSession(str(graph.path), chosen, providers=["CPUExecutionProvider"])
        except ONNX_RUNTIME_ERRORS as error:
            raise InputError(f"{graph.path}: ONNX Runtime cannot prepare this graph: {error}; leave it out") from error
        with made.open("ab") as file:
            file.write(content := prepared.read_bytes())
            file.write(_LENGTH.pack(len(content)))
        return store.save(graph.engines, wanted, made, time.perf_counter() - start, peak_bytes())


def key(graph: GraphFile) -> EngineKey:
    """All that an engine depends on: it serves every size and every number of threads."""
    cpu = host_cpu.identity()
    assert cpu is not None, "an engine for a CPU that is not told"
    return EngineKey(graph.name, graph.digest, graph.precision, LIBRARY, onnxruntime.__version__, cpu)


def found(graph: GraphFile) -> Path | None:
    """The engine that fits a graph and this machine, None where there is none."""
    return store.find(graph.engines, key(graph)) if _may_have(graph) else None


def fitting(graph: GraphFile) -> Path | None:
    """The engine that fits; None where there is none, with a warning where others are."""
    path = found(graph)
    if path is None and _may_have(graph) and (why := store.reasons(graph.engines, key(graph))):
        message = f"{graph.name}: opened without an engine, since none fits: {'; '.join(why)}"
        warnings.warn(f"{message}; x2i build BUNDLE --for cpu", EngineWarning, stacklevel=5)
    return path


def _may_have(graph: GraphFile) -> bool:
    """Whether a graph is of a bundle with a folder of engines, on a CPU that tells what it is."""
    there = graph.engines is not None and graph.engines.is_dir()
    return there and bool(graph.digest) and host_cpu.identity() is not None


def prepared_graph(path: Path) -> bytes:
    """The graph in an engine; it looks for its weights beside itself, under the engine's name."""
    with path.open("rb") as file:
        end = file.seek(-_LENGTH.size, 2)
        (length,) = _LENGTH.unpack(file.read())
        assert 0 < length <= end, "an engine that its record vouches for, without a graph"
        file.seek(end - length)
        return file.read(length)
