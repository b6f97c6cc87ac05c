"""Graphs on an NVIDIA GPU through ONNX Runtime, which needs no engine."""

import itertools
import warnings
from collections.abc import Callable
from functools import partial
from threading import Lock
from weakref import finalize

import numpy as np
import onnxruntime

from ..bundle.calls import Tensor
from ..engines.gpu import gpu_problem
from ..errors import EngineWarning, InputError, reason
from .onnxruntime_cpu import DTYPES, ONNX_RUNTIME_ERRORS, as_tensor
from .session import GraphFile, Outputs, Settings, call_error, library_edge

PROVIDER = "CUDAExecutionProvider"
INSTALL = "pip uninstall -y onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'"
LIBRARY = "ONNX Runtime"
_UNCAPTURED = "-1"


def cuda_present() -> bool:
    """Whether the ONNX Runtime that is installed was made for CUDA."""
    return PROVIDER in onnxruntime.get_available_providers()


def cuda_problem(graph: GraphFile | None, settings: Settings) -> str | None:
    """Why CUDA cannot be used through ONNX Runtime here, in one line with the fix; None when it can."""
    if not cuda_present():
        return f"this onnxruntime is made for CPUs alone; {INSTALL}"
    return gpu_problem()


def open_cuda(graph: GraphFile, settings: Settings) -> "OnnxRuntimeCudaSession":
    """Opens a graph on the GPU; raises InputError where ONNX Runtime would run it on the CPU instead."""
    if hasattr(onnxruntime, "preload_dlls"):
        # Finds CUDA and cuDNN where pip has put them.
        onnxruntime.preload_dlls()
    try:
        session = _open_graph(graph, captures=True)
    except ONNX_RUNTIME_ERRORS as error:
        warnings.warn(f"{graph.name}: launches are queued one by one: {reason(error)}", EngineWarning, stacklevel=3)
        return OnnxRuntimeCudaSession(_open_uncaptured(graph), captures=False)
    return OnnxRuntimeCudaSession(session, captures=True)


def _open_uncaptured(graph: GraphFile) -> onnxruntime.InferenceSession:
    refused = f"{graph.path}: ONNX Runtime {onnxruntime.__version__} cannot open this graph on CUDA"
    with library_edge(lambda why: InputError(f"{refused}: {why}; choose another backend, such as cpu")):
        return _open_graph(graph, captures=False)


def _open_graph(graph: GraphFile, captures: bool) -> onnxruntime.InferenceSession:
    """A session whose first provider is CUDA. Float32 stays float32: its products are not rounded to TF32."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    cuda = {"use_tf32": "0", "enable_cuda_graph": str(int(captures))}
    providers = [(PROVIDER, cuda), "CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(str(graph.path), options, providers=providers)
    if session.get_providers()[0] != PROVIDER:
        raise InputError(
            f"ONNX Runtime {onnxruntime.__version__} cannot load CUDA and would run {graph.name} on the CPU; install "
            f"the CUDA and cuDNN that it was made for: {INSTALL}"
        )
    return session


class OnnxRuntimeCudaSession:
    """A Session of ONNX Runtime whose arrays live on a device; safe to call from several threads, one at a time.

    With `captures`, bound calls are captured once their shapes are fixed, and replayed from then on. `device` is ONNX
    Runtime's name of one.
    """

    def __init__(self, session: onnxruntime.InferenceSession, captures: bool, device: str = "cuda"):
        self._session, self._captures, self._device = session, captures, device
        self.inputs = tuple(as_tensor(value) for value in session.get_inputs())
        self.outputs = tuple(as_tensor(value) for value in session.get_outputs())
        self._lock = Lock()
        self._numbers = itertools.count()
        self._free: list[_DeviceBinding] = []

    def __call__(self, **arrays: np.ndarray) -> Outputs:
        return self.bind(**arrays)()

    def bind(self, **arrays: np.ndarray) -> Callable[..., Outputs]:
        with self._lock:
            binding = self._free.pop() if self._free else self._binding()
            binding.upload(arrays)
        bound = partial(self._call_bound, binding)
        # The binding serves the next run as soon as nobody holds this call any more.
        finalize(bound, self._free.append, binding)
        return bound

    def _call_bound(self, binding: "_DeviceBinding", /, **rest: np.ndarray) -> Outputs:
        with self._lock:
            binding.upload(rest)
            return binding.run()

    def _binding(self) -> "_DeviceBinding":
        names = [tensor.name for tensor in self.outputs]
        numbers = self._numbers if self._captures else None
        return _DeviceBinding(self._session, self.inputs, names, self._device, numbers)


class _DeviceBinding:
    """Inputs and outputs at fixed places on the device, as long as their shapes stay.

    `numbers` names what is captured, each number once in a session; without it, nothing is.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        inputs: tuple[Tensor, ...],
        outputs: list[str],
        device: str,
        numbers: "itertools.count[int] | None",
    ):
        self._session, self._tensors, self._names = session, inputs, outputs
        self._device, self._numbers = device, numbers
        self._io = session.io_binding()
        self._inputs: dict[str, onnxruntime.OrtValue] = {}
        self._outputs: list[onnxruntime.OrtValue] = []
        self._capture = _UNCAPTURED

    def upload(self, arrays: dict[str, np.ndarray]) -> None:
        """Copies inputs to the device; raises InputError for one that the graph does not take."""
        inputs = [tensor for tensor in self._tensors if tensor.name in arrays]
        with library_edge(lambda why: call_error(LIBRARY, inputs, arrays, why)):
            for name, array in arrays.items():
                self._put(name, np.ascontiguousarray(array))

    def _put(self, name: str, array: np.ndarray) -> None:
        held = self._inputs.get(name)
        # A call that failed may have left another dtype, and its bytes would be taken for these.
        if held is not None and (tuple(held.shape()), DTYPES.get(held.data_type())) == (array.shape, array.dtype.name):
            held.update_inplace(array)
            return
        self._inputs[name] = onnxruntime.OrtValue.ortvalue_from_numpy(array, self._device, 0)
        self._io.bind_ortvalue_input(name, self._inputs[name])
        self._outputs = []

    def run(self) -> Outputs:
        """The first call of some shapes finds room for the outputs, which later ones keep."""
        fresh = not self._outputs
        if fresh:
            self._capture = _UNCAPTURED
            for name in self._names:
                self._io.bind_output(name, self._device, 0)
        options = onnxruntime.RunOptions()
        options.add_run_config_entry("gpu_graph_id", self._capture)
        with library_edge(lambda why: call_error(LIBRARY, self._tensors, self._described(), why)):
            self._session.run_with_iobinding(self._io, options)
        if fresh:
            self._keep_outputs()
        # On some devices numpy() is the memory that the next call writes to.
        return {name: value.numpy().copy() for name, value in zip(self._names, self._outputs, strict=True)}

    def _described(self) -> dict[str, np.ndarray]:
        """Arrays of the inputs' dtypes and shapes that take no memory, and for which nothing is copied back."""
        return {
            name: np.broadcast_to(np.zeros((), DTYPES[value.data_type()]), tuple(value.shape()))
            for name, value in self._inputs.items()
        }

    def _keep_outputs(self) -> None:
        self._outputs = list(self._io.get_outputs())
        for name, value in zip(self._names, self._outputs, strict=True):
            self._io.bind_ortvalue_output(name, value)
        if self._numbers is not None:
            self._capture = str(next(self._numbers))
