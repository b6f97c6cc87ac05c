"""Engines of TensorRT-RTX and of TensorRT 10 and 11: one way for all, with the module that is given."""

import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any
from weakref import finalize

import numpy as np

from ..engines import plugin, store, tensorrt_key
from ..engines.gpu import first_gpu, gpu_problem
from ..engines.tensorrt_key import BACKENDS
from ..engines.tensorrt_log import complaint, imported, log
from ..errors import InputError
from ..manifest import Tensor
from .cuda_stream import CudaStream, cuda_runtime
from .graph_file import GraphFile
from .session import Outputs, Settings
from .tensorrt_runner import TensorRtRunner


def problem(library: str, graph: GraphFile | None, settings: Settings) -> str | None:
    """Why `tensorrt_rtx` or `tensorrt` cannot be used here, or has no engine of a graph; None when all is there."""
    extra = BACKENDS[library]
    packages = {library: library.replace("_", "-"), "cuda": "cuda-bindings"}
    missing = [package for module, package in packages.items() if find_spec(module) is None]
    if missing:
        return f"needs {' and '.join(missing)}; pip install 'x2i-edge[{extra}]'"
    if (found := gpu_problem()) is not None:
        return found
    try:
        tensorrt = imported(library)
    except InputError as error:
        return error.problems[0]
    if graph is None or tensorrt_key.find(graph, library, tensorrt.__version__, first_gpu(), check_digest=False):
        return None
    return tensorrt_key.why_not(graph, library, tensorrt.__version__, first_gpu())


def open_engine(library: str, graph: GraphFile, settings: Settings) -> "TensorRtSession":
    """The newest engine of a graph that `tensorrt_rtx` or `tensorrt` opens on this GPU.

    Raises InputError where there is none, or where it is cut short, altered, or refused by the library.
    """
    tensorrt, gpu = imported(library), first_gpu()
    path = tensorrt_key.find(graph, library, tensorrt.__version__, gpu)
    if path is None:
        raise InputError(tensorrt_key.why_not(graph, library, tensorrt.__version__, gpu))
    if plugin.OPTION in store.read_record(path.with_suffix(".json")).key.options:
        plugin.register(tensorrt)
    return TensorRtSession(tensorrt, _deserialized(tensorrt, path), CudaStream(cuda_runtime()))


class TensorRtSession:
    """A Session of an opened engine; safe to call from several threads, one of which runs at a time.

    `bind` takes a context of its own, which goes back for the next run when the bound call is dropped: a run's buffers,
    and the launches that were captured for its shapes, then serve the next.
    """

    def __init__(self, tensorrt: ModuleType, engine: Any, stream: CudaStream):
        self._tensorrt, self._engine, self._stream = tensorrt, engine, stream
        tensors = [_tensor(tensorrt, engine, number) for number in range(engine.num_io_tensors)]
        inputs = {tensor.name for tensor in tensors if _is_input(tensorrt, engine, tensor.name)}
        self.inputs = tuple(tensor for tensor in tensors if tensor.name in inputs)
        self.outputs = tuple(tensor for tensor in tensors if tensor.name not in inputs)
        self._lock = Lock()
        self._free: list[TensorRtRunner] = []

    def __call__(self, **arrays: np.ndarray) -> Outputs:
        with self._lock, self._borrowed() as runner:
            runner.upload(arrays)
            return runner.run()

    def bind(self, **arrays: np.ndarray) -> Callable[..., Outputs]:
        with self._lock:
            runner = self._free.pop() if self._free else self._runner()
            runner.upload(arrays)
        bound = _Bound(partial(self._call_bound, runner))
        finalize(bound, self._free.append, runner)
        return bound

    def _call_bound(self, runner: TensorRtRunner, **rest: np.ndarray) -> Outputs:
        with self._lock:
            runner.upload(rest)
            return runner.run()

    @contextmanager
    def _borrowed(self) -> Iterator[TensorRtRunner]:
        runner = self._free.pop() if self._free else self._runner()
        try:
            yield runner
        finally:
            self._free.append(runner)

    def _runner(self) -> TensorRtRunner:
        """A new context. TensorRT-RTX captures launches by itself, once its kernels for the shapes are made."""
        itself = hasattr(self._tensorrt, "CudaGraphStrategy")
        if itself:
            config = self._engine.create_runtime_config()
            config.cuda_graph_strategy = self._tensorrt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            context = self._engine.create_execution_context(config)
        else:
            context = self._engine.create_execution_context()
        if context is None:
            size = self._engine.device_memory_size_v2 / 1e6
            raise InputError(
                f"TensorRT finds no room on the GPU for this engine, which works in {size:.0f} MB; build it for a "
                "smaller --size or --count, or close other programs on the GPU"
            )
        return TensorRtRunner(self._engine, context, self._stream, self.inputs, self.outputs, captures=not itself)


class _Bound:
    """A call with some inputs on the GPU; an object of its own, so that its end can be told."""

    def __init__(self, call: Callable[..., Outputs]):
        self._call = call

    def __call__(self, **rest: np.ndarray) -> Outputs:
        return self._call(**rest)


def _tensor(tensorrt: ModuleType, engine: Any, number: int) -> Tensor:
    """Engines do not keep the names of free sizes; theirs are made from the tensor's name."""
    name = engine.get_tensor_name(number)
    shape = tuple(f"{name}.{axis}" if size < 0 else size for axis, size in enumerate(engine.get_tensor_shape(name)))
    return Tensor(name, np.dtype(tensorrt.nptype(engine.get_tensor_dtype(name))).name, shape)


def _is_input(tensorrt: ModuleType, engine: Any, name: str) -> bool:
    return bool(engine.get_tensor_mode(name) == tensorrt.TensorIOMode.INPUT)


def _deserialized(tensorrt: ModuleType, path: Path) -> Any:
    log(tensorrt).errors.clear()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        engine = _runtime(tensorrt).deserialize_cuda_engine(content)
    if engine is None:
        raise InputError(
            f"{path}: {tensorrt.__name__} {tensorrt.__version__} cannot open this engine: {complaint(tensorrt)}; build "
            f"it again on this machine with `x2i build BUNDLE --for {BACKENDS[tensorrt.__name__]}`"
        )
    return engine


@cache
def _runtime(tensorrt: ModuleType) -> Any:
    """One for the process: it must live as long as its engines."""
    return tensorrt.Runtime(log(tensorrt))
