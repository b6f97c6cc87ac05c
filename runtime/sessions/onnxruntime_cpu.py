"""Graphs on the CPU through ONNX Runtime."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime

from ..errors import InputError
from ..manifest import Tensor
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
    """A Session of ONNX Runtime's CPU provider; safe to call from several threads."""

    def __init__(self, path: Path, threads: int | None = None):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except ONNX_RUNTIME_ERRORS as error:
            raise InputError(
                f"{path}: ONNX Runtime {onnxruntime.__version__} cannot open this graph: {error}"
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


def as_tensor(value: onnxruntime.NodeArg) -> Tensor:
    return Tensor(value.name, DTYPES[value.type], tuple(value.shape))


_STATE = onnxruntime.capi.onnxruntime_pybind11_state
ONNX_RUNTIME_ERRORS = (
    _STATE.Fail,
    _STATE.InvalidGraph,
    _STATE.InvalidProtobuf,
    _STATE.NoSuchFile,
    _STATE.NotImplemented,
)
