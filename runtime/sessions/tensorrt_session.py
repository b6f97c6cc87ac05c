"""One execution context of an engine, its buffers on the GPU, and the launches of a call once they are captured."""

import mmap
import warnings
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

from ..bundle.calls import Tensor
from ..engines import plugin, store, tensorrt_key
from ..engines.gpu import first_gpu, gpu_problem
from ..engines.tensorrt_key import BACKENDS, import_tensorrt, tensorrt_complaint, tensorrt_log
from ..errors import EngineWarning, InputError
from .cuda_stream import CudaStream, cuda_runtime
from .session import GraphFile, Outputs, Settings


class TensorRtRunner:
    """Runs an engine in one order: not safe to call from several threads at once.

    What was uploaded stays on the GPU until it is uploaded anew. With `captures`, the second call of the same shapes is
    captured, and what was captured is replayed from then on.
    """

    def __init__(
        self,
        engine: Any,
        context: Any,
        stream: CudaStream,
        inputs: tuple[Tensor, ...],
        outputs: tuple[Tensor, ...],
        captures: bool,
    ):
        self._engine, self._context, self._stream, self._captures = engine, context, stream, captures
        self._inputs = {tensor.name: tensor for tensor in inputs}
        self._outputs = {tensor.name: tensor for tensor in outputs}
        self._buffers: dict[str, tuple[int, int]] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._launches: list[Any] = []
        self._calls = 0
        # The end of the process frees the GPU by itself.
        finalize(self, _free, stream, self._launches, self._buffers).atexit = False

    def upload(self, arrays: dict[str, np.ndarray]) -> None:
        """Puts inputs onto the GPU; raises InputError for a shape that the engine was not built for."""
        for name, array in arrays.items():
            whole = np.ascontiguousarray(array, self._inputs[name].dtype)
            if self._shapes.get(name) != whole.shape:
                self._set_shape(name, whole.shape)
            self._stream.upload(self._buffer(name, whole.nbytes), whole)

    def run(self) -> Outputs:
        """One call on what was uploaded."""
        shapes = {name: tuple(self._context.get_tensor_shape(name)) for name in self._outputs}
        outputs = {name: np.empty(shapes[name], tensor.dtype) for name, tensor in self._outputs.items()}
        addresses = {name: self._buffer(name, array.nbytes) for name, array in outputs.items()}
        self._execute()
        for name, array in outputs.items():
            self._stream.download(array, addresses[name])
        self._stream.wait()
        return outputs

    def _execute(self) -> None:
        if self._captures and not self._launches and self._calls:
            self._capture()
        if not self._launches:
            self._enqueue()
        for launches in self._launches:
            self._stream.replay(launches)
        self._calls += 1

    def _capture(self) -> None:
        try:
            self._launches.append(self._stream.captured(self._enqueue))
        except InputError as error:
            self._captures = False
            note = f"launches are queued one by one, for they cannot be captured: {error}"
            warnings.warn(note, EngineWarning, stacklevel=6)

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._stream.handle):
            shapes = ", ".join(f"{name} {list(shape)}" for name, shape in self._shapes.items())
            raise InputError(f"TensorRT failed on {shapes}; try a smaller size or count")

    def _set_shape(self, name: str, shape: tuple[int, ...]) -> None:
        least, _, most = (tuple(bound) for bound in self._engine.get_tensor_profile_shape(name, 0))
        fits = len(shape) == len(least) and all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True))
        if not fits:
            raise InputError(
                f"{name}: the engine was built for {list(least)} to {list(most)}, got {list(shape)}; build it again "
                "with the --size and --count that you draw"
            )
        self._forget()
        if not self._context.set_input_shape(name, shape):
            raise InputError(f"{name}: TensorRT refuses the shape {list(shape)}; build the engine again")
        self._shapes[name] = shape

    def _buffer(self, name: str, size: int) -> int:
        """The address of a tensor, of another buffer where the old one is too small."""
        address, room = self._buffers.get(name, (0, -1))
        if size > room:
            self._forget()
            if room >= 0:
                self._stream.wait()
                self._stream.free(self._buffers.pop(name)[0])
            address = self._stream.allocate(size)
            self._buffers[name] = address, size
            self._context.set_tensor_address(name, address)
        return address

    def _forget(self) -> None:
        """What was captured holds for its shapes and addresses alone."""
        self._calls = 0
        while self._launches:
            self._stream.forget(self._launches.pop())


def _free(stream: CudaStream, launches: list[Any], buffers: dict[str, tuple[int, int]]) -> None:
    stream.wait()
    for captured in launches:
        stream.forget(captured)
    for address, _ in buffers.values():
        stream.free(address)


def tensorrt_problem(library: str, graph: GraphFile | None, settings: Settings) -> str | None:
    """Why `tensorrt_rtx` or `tensorrt` cannot be used here, or has no engine of a graph; None when all is there."""
    extra = BACKENDS[library]
    packages = {library: library.replace("_", "-"), "cuda": "cuda-bindings"}
    missing = [package for module, package in packages.items() if find_spec(module) is None]
    if missing:
        return f"needs {' and '.join(missing)}; pip install 'x2i-edge[{extra}]'"
    if (found := gpu_problem()) is not None:
        return found
    try:
        tensorrt = import_tensorrt(library)
    except InputError as error:
        return error.problems[0]
    if graph is None or tensorrt_key.find_tensorrt_engine(
        graph, library, tensorrt.__version__, first_gpu(), check_digest=False
    ):
        return None
    return tensorrt_key.why_no_tensorrt_engine(graph, library, tensorrt.__version__, first_gpu())


def open_tensorrt(library: str, graph: GraphFile, settings: Settings) -> "TensorRtSession":
    """The newest engine of a graph that `tensorrt_rtx` or `tensorrt` opens on this GPU.

    Raises InputError where there is none, or where it is cut short, altered, or refused by the library.
    """
    tensorrt, gpu = import_tensorrt(library), first_gpu()
    path = tensorrt_key.find_tensorrt_engine(graph, library, tensorrt.__version__, gpu)
    if path is None:
        raise InputError(tensorrt_key.why_no_tensorrt_engine(graph, library, tensorrt.__version__, gpu))
    if plugin.OPTION in store.read_record(path.with_suffix(".json")).key.options:
        plugin.register_plugin(tensorrt)
    return TensorRtSession(tensorrt, _deserialized(tensorrt, path), CudaStream(cuda_runtime()))


class TensorRtSession:
    """A Session of an opened engine; safe to call from several threads, one of which runs at a time.

    `bind` takes a context of its own, which goes back for the next run when the bound call is dropped: a run's buffers,
    and the launches that were captured for its shapes, then serve the next.
    """

    def __init__(self, tensorrt: ModuleType, engine: Any, stream: CudaStream):
        self._tensorrt, self._engine, self._stream = tensorrt, engine, stream
        tensors = [_engine_tensor(tensorrt, engine, number) for number in range(engine.num_io_tensors)]
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
        bound = partial(self._call_bound, runner)
        # The runner serves the next run as soon as nobody holds this call any more.
        finalize(bound, self._free.append, runner)
        return bound

    def _call_bound(self, runner: TensorRtRunner, /, **rest: np.ndarray) -> Outputs:
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


def _engine_tensor(tensorrt: ModuleType, engine: Any, number: int) -> Tensor:
    """Engines do not keep the names of free sizes; theirs are made from the tensor's name."""
    name = engine.get_tensor_name(number)
    shape = tuple(f"{name}.{axis}" if size < 0 else size for axis, size in enumerate(engine.get_tensor_shape(name)))
    return Tensor(name, np.dtype(tensorrt.nptype(engine.get_tensor_dtype(name))).name, shape)


def _is_input(tensorrt: ModuleType, engine: Any, name: str) -> bool:
    return bool(engine.get_tensor_mode(name) == tensorrt.TensorIOMode.INPUT)


def _deserialized(tensorrt: ModuleType, path: Path) -> Any:
    tensorrt_log(tensorrt).errors.clear()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        engine = _runtime(tensorrt).deserialize_cuda_engine(content)
    if engine is None:
        raise InputError(
            f"{path}: {tensorrt.__name__} {tensorrt.__version__} cannot open this engine: "
            f"{tensorrt_complaint(tensorrt)}; build it "
            f"again on this machine with `x2i build BUNDLE --for {BACKENDS[tensorrt.__name__]}`"
        )
    return engine


@cache
def _runtime(tensorrt: ModuleType) -> Any:
    """One for the process: it must live as long as its engines."""
    return tensorrt.Runtime(tensorrt_log(tensorrt))
