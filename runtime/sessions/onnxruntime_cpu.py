"""Graphs on the CPU through ONNX Runtime, from their files or from engines prepared for this CPU."""

import struct
import time
import warnings
from pathlib import Path

import numpy as np
import onnxruntime

from .. import machine
from ..bundle.calls import Tensor
from ..engines import store
from ..engines.key import EngineKey
from ..errors import EngineWarning, InputError
from ..machine import peak_memory
from .session import GraphFile, Outputs, Settings, Shapes, UnboundSession, call_error, library_edge

LIBRARY = "onnxruntime"
_LENGTH = struct.Struct("<Q")
_MIN_EXTERNAL_BYTES = 1024
"""Smaller weights are kept in the graph itself."""


def build_onnxruntime_engine(graph: GraphFile) -> Path:
    """Prepares a graph and keeps it in the bundle's engines; returns the file.

    Raises InputError where ONNX Runtime cannot open the graph; then nothing is left behind.
    """
    assert graph.engines is not None and graph.digest, "an engine without a bundle to keep it in"
    wanted, start = onnxruntime_key(graph), time.perf_counter()
    with store.staging_dir(graph.engines) as folder:
        made, prepared = folder / f"{wanted.stem}.engine", folder / "graph.onnx"
        made.touch()
        chosen = session_options()
        chosen.optimized_model_filepath = str(prepared)
        for name, value in {
            "optimized_model_external_initializers_file_name": made.name,
            "optimized_model_external_initializers_min_size_in_bytes": str(_MIN_EXTERNAL_BYTES),
            "save_external_prepacked_constant_initializers": "1",
        }.items():
            chosen.add_session_config_entry(f"session.{name}", value)
        with library_edge(
            lambda why: InputError(f"{graph.path}: ONNX Runtime cannot prepare this graph: {why}; leave it out")
        ):
            onnxruntime.InferenceSession(str(graph.path), chosen, providers=["CPUExecutionProvider"])
        with made.open("ab") as file:
            file.write(content := prepared.read_bytes())
            file.write(_LENGTH.pack(len(content)))
        return store.save_engine(graph.engines, wanted, made, time.perf_counter() - start, peak_memory())


def onnxruntime_key(graph: GraphFile) -> EngineKey:
    """All that an engine depends on: it serves every size and every number of threads."""
    cpu = machine.cpu_identity()
    assert cpu is not None, "an engine for a CPU that is not told"
    return EngineKey(graph.name, graph.digest, graph.precision, LIBRARY, onnxruntime.__version__, cpu)


def find_onnxruntime_engine(graph: GraphFile) -> Path | None:
    """The engine that fits a graph and this machine, None where there is none."""
    return store.find_engine(graph.engines, onnxruntime_key(graph)) if _may_have_engines(graph) else None


def onnxruntime_prepared(graph: GraphFile, shapes: Shapes | None) -> bool:
    """Whether a graph has an engine that fits this machine; one serves all shapes."""
    return find_onnxruntime_engine(graph) is not None


def fitting_onnxruntime_engine(graph: GraphFile) -> Path | None:
    """The engine that fits; None where there is none, with a warning where others are."""
    path = find_onnxruntime_engine(graph)
    if (
        path is None
        and _may_have_engines(graph)
        and (why := store.why_none_fits(graph.engines, onnxruntime_key(graph)))
    ):
        message = f"{graph.name}: opened without an engine, since none fits: {'; '.join(why)}"
        warnings.warn(f"{message}; x2i build BUNDLE --for cpu", EngineWarning, stacklevel=6)
    return path


def _may_have_engines(graph: GraphFile) -> bool:
    """Whether a graph is of a bundle with a folder of engines, on a CPU that tells what it is."""
    there = graph.engines is not None and graph.engines.is_dir()
    return there and bool(graph.digest) and machine.cpu_identity() is not None


def prepared_graph(path: Path) -> bytes:
    """The graph in an engine; it looks for its weights beside itself, under the engine's name.

    Raises ValueError, or OSError, for an engine that holds none, whatever its record says.
    """
    with path.open("rb") as file:
        end = max(0, file.seek(0, 2) - _LENGTH.size)
        file.seek(end)
        length = int.from_bytes(file.read(), "little")
        if not 0 < length <= end:
            raise ValueError(f"no graph stands behind the weights of its engine, but {length} bytes of {end}")
        file.seek(end - length)
        return file.read(length)


def open_onnxruntime(graph: GraphFile, settings: Settings) -> "OnnxRuntimeSession":
    """The session of a graph, of its engine where one fits. Raises InputError where ONNX Runtime cannot open it."""
    return OnnxRuntimeSession(graph.path, settings.threads, fitting_onnxruntime_engine(graph))


DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
    "tensor(string)": "str",
} | {f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
"""numpy's names of ONNX Runtime's types: all that an array can have."""


class OnnxRuntimeSession(UnboundSession):
    """A Session of ONNX Runtime's CPU provider; safe to call from several threads.

    Opens a graph's file, or with `engine` what `x2i build --for cpu` has made of it. Raises InputError where ONNX
    Runtime cannot.
    """

    def __init__(self, path: Path, threads: int | None = None, engine: Path | None = None):
        fix = "export it again"
        if engine is not None:
            fix = f"remove {engine}, or build it again with x2i build BUNDLE --for cpu"
        refused = f"{path}: ONNX Runtime {onnxruntime.__version__} cannot open this graph"
        with library_edge(lambda why: InputError(f"{refused}: {why}; {fix}")):
            self._session = _open_graph(path, threads) if engine is None else _open_engine(engine, threads)
            inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
            super().__init__(tuple(map(as_tensor, inputs)), tuple(map(as_tensor, outputs)))
        self._names = [tensor.name for tensor in self.outputs]

    def __call__(self, **arrays: np.ndarray) -> Outputs:
        with library_edge(lambda why: call_error("ONNX Runtime", self.inputs, arrays, why)):
            outputs = self._session.run(self._names, arrays)
        return dict(zip(self._names, outputs, strict=True))


VNNI = {"avx512_vnni", "avx_vnni"}
EXACT_PRODUCTS = "session.x64quantprecision"
"""Without VNNI, AVX2 and AVX-512 add products of unsigned and signed bytes in 16 bits, which overflow: int8 then draws
another picture. With this, ONNX Runtime multiplies unsigned bytes on every x86 CPU: where there is VNNI, not a bit of a
prediction changes, and a call of VQ-Diffusion's transformer takes 1.4 times the time."""


def session_options(threads: int | None = None) -> onnxruntime.SessionOptions:
    """How every graph is opened on the CPU."""
    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = threads or 0
    # What it raises is told in our words; its log would say it once more, with escapes for colours.
    chosen.log_severity_level = 4
    # A block for all of a call's arrays is laid out by the first call and taken by the second, which then holds both:
    # at full size 6.3 GB where 3.5 do, and no faster.
    chosen.enable_mem_pattern = False
    # Threads that go on looking for work hold back the next graph's: for a tenth of a second, a third of an embedded
    # picture.
    chosen.add_session_config_entry("session.force_spinning_stop", "1")
    if not VNNI & set(machine.cpu_features()):
        chosen.add_session_config_entry(EXACT_PRODUCTS, "1")
    return chosen


def _open_graph(path: Path, threads: int | None) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), session_options(threads), providers=["CPUExecutionProvider"])


def _open_engine(path: Path, threads: int | None) -> onnxruntime.InferenceSession:
    chosen = session_options(threads)
    chosen.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    chosen.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    content = prepared_graph(path)
    return onnxruntime.InferenceSession(content, chosen, providers=["CPUExecutionProvider"])


def as_tensor(value: onnxruntime.NodeArg) -> Tensor:
    """An input or output as the manifest tells it: free sizes keep their names."""
    if value.type not in DTYPES:
        raise InputError(
            f"{value.name}: expected a tensor of numbers or texts, got {value.type}; export the graph again"
        )
    return Tensor(value.name, DTYPES[value.type], tuple(value.shape))


_STATE = onnxruntime.capi.onnxruntime_pybind11_state
ONNX_RUNTIME_ERRORS = (
    _STATE.Fail,
    _STATE.InvalidGraph,
    _STATE.InvalidProtobuf,
    _STATE.NoSuchFile,
    _STATE.NotImplemented,
    # Too little memory, for one.
    _STATE.RuntimeException,
)
"""What ONNX Runtime raises for a graph that it cannot open, where another way is tried then."""
