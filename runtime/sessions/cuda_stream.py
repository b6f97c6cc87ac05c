"""One CUDA stream: memory on the GPU, copies to and from it, and captured work, through cuda-bindings."""

from collections.abc import Callable
from types import ModuleType
from typing import Any
from weakref import finalize

import numpy as np

from ..errors import InputError

OUT_OF_MEMORY = 2


class CudaStream:
    """Work that the GPU does in order. `runtime` is `cuda.bindings.runtime`; addresses and handles are integers.

    Every method raises InputError where the GPU refuses, with the fix.
    """

    def __init__(self, runtime: ModuleType):
        self._cuda = runtime
        self._stream = self._checked("cudaStreamCreate", runtime.cudaStreamCreate())
        # The end of the process frees the GPU by itself.
        finalize(self, runtime.cudaStreamDestroy, self._stream).atexit = False

    @property
    def handle(self) -> int:
        """The stream's address, as other libraries take it."""
        return int(self._stream)

    def allocate(self, size: int) -> int:
        """The address of `size` bytes on the GPU."""
        status, address = self._cuda.cudaMalloc(max(1, size))
        if int(status) == OUT_OF_MEMORY:
            raise InputError(
                f"the GPU's memory is full: {size / 1e6:.1f} MB more are needed; try a smaller size or count, close "
                "other programs on the GPU, or export at a lower precision"
            )
        return int(self._checked("cudaMalloc", (status, address)))

    def free(self, address: int) -> None:
        """Gives back what `allocate` gave."""
        self._checked("cudaFree", self._cuda.cudaFree(address))

    def upload(self, address: int, array: np.ndarray) -> None:
        """Queues a copy to the GPU; the array may change once this returns."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        source, size = array.ctypes.data, array.nbytes
        self._checked("cudaMemcpyAsync", self._cuda.cudaMemcpyAsync(address, source, size, kind, self._stream))

    def download(self, array: np.ndarray, address: int) -> None:
        """Queues a copy from the GPU; the array is filled after `wait`."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        target, size = array.ctypes.data, array.nbytes
        self._checked("cudaMemcpyAsync", self._cuda.cudaMemcpyAsync(target, address, size, kind, self._stream))

    def wait(self) -> None:
        """Until all that was queued is done."""
        self._checked("cudaStreamSynchronize", self._cuda.cudaStreamSynchronize(self._stream))

    def captured(self, work: Callable[[], None]) -> Any:
        """What `work` queues, as one graph of launches that can be queued again; nothing of it is run meanwhile."""
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._checked("cudaStreamBeginCapture", self._cuda.cudaStreamBeginCapture(self._stream, mode))
        try:
            work()
        finally:
            ended = self._cuda.cudaStreamEndCapture(self._stream)
        graph = self._checked("cudaStreamEndCapture", ended)
        try:
            return self._checked("cudaGraphInstantiate", self._cuda.cudaGraphInstantiate(graph, 0))
        finally:
            self._checked("cudaGraphDestroy", self._cuda.cudaGraphDestroy(graph))

    def replay(self, launches: Any) -> None:
        """Queues what was captured."""
        self._checked("cudaGraphLaunch", self._cuda.cudaGraphLaunch(launches, self._stream))

    def forget(self, launches: Any) -> None:
        """Frees what was captured."""
        self._checked("cudaGraphExecDestroy", self._cuda.cudaGraphExecDestroy(launches))

    def _checked(self, call: str, result: tuple[Any, ...]) -> Any:
        status, *values = result
        if int(status) != 0:
            _, words = self._cuda.cudaGetErrorString(status)
            raise InputError(
                f"the GPU refused {call}: {words.decode(errors='replace')}; look at nvidia-smi, and update the driver "
                "where it is older than the CUDA that cuda-bindings was made for"
            )
        return values[0] if values else None


def cuda_runtime() -> ModuleType:
    """`cuda.bindings.runtime`; raises InputError where it is not installed."""
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise InputError(f"needs cuda-bindings, which does not import ({error}); pip install cuda-bindings") from error
    module: ModuleType = runtime
    return module
