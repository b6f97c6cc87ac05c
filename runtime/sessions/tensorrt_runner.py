"""One execution context of an engine, its buffers on the GPU, and the launches of a call once they are captured."""

import warnings
from typing import Any
from weakref import finalize

import numpy as np

from ..errors import EngineWarning, InputError
from ..manifest import Tensor
from .cuda_stream import CudaStream
from .session import Outputs


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
            told = f"launches are queued one by one, for they cannot be captured: {error}"
            warnings.warn(told, EngineWarning, stacklevel=6)

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
