"""Graphs on the CPU through ONNX Runtime."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime

from ..errors import InputError
from ..manifest import Tensor
from . import onnxruntime_engine
from .session import Outputs

DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(bool)": "bool",
}


class OnnxRuntimeSession:
    """A Session of ONNX Runtime's CPU provider; safe to call from several threads.

    Opens a graph's file, or with `engine` what `x2i build --for cpu` has made of it.
    """

    def __init__(self, path: Path, threads: int | None = None, engine: Path | None = None):
        try:
            self._session = _opened(path, threads) if engine is None else _opened_engine(engine, threads)
        except ONNX_RUNTIME_ERRORS as error:
            fix = "" if engine is None else f"; remove {engine}, or build it again with x2i build BUNDLE --for cpu"
            raise InputError(
                f"{path}: ONNX Runtime {onnxruntime.__version__} cannot open this graph: {error}{fix}"
            ) from error
        self.inputs = tuple(as_tensor(value) for value in self._session.get_inputs())
        self.outputs = tuple(as_tensor(value) for value in self._session.get_outputs())
        self._names = [tensor.name for tensor in self.outputs]

    def __call__(self, **arrays: np.ndarray) -> Outputs:
        try:
            outputs = self._session.run(self._names, arrays)
        except _STATE.RuntimeException as error:
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
            raise InputError(f"ONNX Runtime failed on {shapes}: {error}; try a smaller size or count") from error
        return dict(zip(self._names, outputs, strict=True))

    def bind(self, **arrays: np.ndarray) -> Callable[..., Outputs]:
        return partial(self, **arrays)


def options(threads: int | None = None) -> onnxruntime.SessionOptions:
    """How every graph is opened on the CPU."""
    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = threads or 0
    chosen.log_severity_level = 3
    # A block for all of a call's arrays is laid out by the first call and taken by the second, which then holds both:
    # at full size 6.3 GB where 3.5 do, and no faster.
    chosen.enable_mem_pattern = False
    # Threads that go on looking for work hold back the next graph's: for a tenth of a second, a third of an embedded
    # picture.
    chosen.add_session_config_entry("session.force_spinning_stop", "1")
    return chosen


def _opened(path: Path, threads: int | None) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), options(threads), providers=["CPUExecutionProvider"])


def _opened_engine(path: Path, threads: int | None) -> onnxruntime.InferenceSession:
    chosen = options(threads)
    chosen.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    chosen.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    content = onnxruntime_engine.prepared_graph(path)
    return onnxruntime.InferenceSession(content, chosen, providers=["CPUExecutionProvider"])


def as_tensor(value: onnxruntime.NodeArg) -> Tensor:
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
