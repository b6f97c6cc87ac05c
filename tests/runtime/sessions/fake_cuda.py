"""A GPU that is none: `cuda.bindings.runtime` on the machine's own memory, and an engine that computes with numpy.

Work that is captured is not run, as on a device; replaying it runs what was captured, on the addresses of that time.
"""

import ctypes
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

LEAST, USUAL, MOST = 1, 2, 4
WIDTH = 3


class FakeCuda:
    """The calls of the runtime API that a stream makes; `uploads` counts bytes to the device by address."""

    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __init__(self, room: int = 1 << 20):
        self.room, self.memory = room, dict[int, Any]()
        self.uploads: list[int] = []
        self.captures = self.replays = self.streams = self.instances = 0
        self.refuses_capture = False
        self.capturing: list[Callable[[], None]] | None = None

    def queue(self, work: Callable[[], None]) -> None:
        if self.capturing is None:
            work()
        else:
            self.capturing.append(work)

    def cudaStreamCreate(self) -> tuple[int, int]:
        self.streams += 1
        return 0, 1

    def cudaStreamDestroy(self, stream: int) -> tuple[int]:
        self.streams -= 1
        return (0,)

    def cudaMalloc(self, size: int) -> tuple[int, int]:
        if size > self.room:
            return 2, 0
        buffer = ctypes.create_string_buffer(size)
        self.memory[ctypes.addressof(buffer)] = buffer
        self.room -= size
        return 0, ctypes.addressof(buffer)

    def cudaFree(self, address: int) -> tuple[int]:
        self.room += len(self.memory.pop(address))
        return (0,)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: int, stream: int) -> tuple[int]:
        assert self.capturing is None, "copies from and to pageable memory cannot be captured"
        if kind == 1:
            self.uploads.append(target)
        device = target if kind == 1 else source
        assert size <= len(self.memory[device])
        ctypes.memmove(target, source, size)
        return (0,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:
        return (0,)

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[int]:
        if self.refuses_capture:
            return (900,)
        self.capturing = []
        return (0,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[int, Any]:
        captured, self.capturing = self.capturing, None
        self.captures += 1
        return 0, captured

    def cudaGraphInstantiate(self, graph: Any, flags: int) -> tuple[int, Any]:
        self.instances += 1
        return 0, graph

    def cudaGraphDestroy(self, graph: Any) -> tuple[int]:
        return (0,)

    def cudaGraphLaunch(self, launches: Any, stream: int) -> tuple[int]:
        self.replays += 1
        for work in launches:
            work()
        return (0,)

    def cudaGraphExecDestroy(self, launches: Any) -> tuple[int]:
        self.instances -= 1
        launches.clear()
        return (0,)

    def cudaGetErrorString(self, status: int) -> tuple[int, bytes]:
        return 0, f"status {status}".encode()


class FakeContext:
    """y = x * factor, on addresses."""

    def __init__(self, cuda: FakeCuda):
        self.cuda, self.shapes, self.addresses = cuda, dict[str, tuple[int, ...]](), dict[str, int]()

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes["x"]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        shape, addresses = self.shapes["x"], dict(self.addresses)

        def work() -> None:
            x, factor, y = (_on_device(addresses[name], shape) for name in ("x", "factor", "y"))
            y[...] = x * factor

        self.cuda.queue(work)
        return True


class FakeEngine:
    """Inputs x and factor, output y, all float32 [batch, 3] with a batch of 1 to 4."""

    num_io_tensors = 3
    device_memory_size_v2 = 5_000_000

    def __init__(self, cuda: FakeCuda):
        self.cuda, self.contexts, self.out_of_memory = cuda, 0, False

    def get_tensor_name(self, number: int) -> str:
        return ("x", "factor", "y")[number]

    def get_tensor_mode(self, name: str) -> str:
        return "output" if name == "y" else "input"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, WIDTH)

    def get_tensor_dtype(self, name: str) -> type:
        return np.float32

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [(batch, WIDTH) for batch in (LEAST, USUAL, MOST)]

    def create_runtime_config(self) -> SimpleNamespace:
        return SimpleNamespace(cuda_graph_strategy=None)

    def create_execution_context(self, config: SimpleNamespace | None = None) -> FakeContext | None:
        assert config is None or config.cuda_graph_strategy == "whole"
        self.contexts += 1
        return None if self.out_of_memory else FakeContext(self.cuda)


def fake_tensorrt(captures_itself: bool = False) -> Any:
    """What a session asks of the module; TensorRT-RTX's `captures_itself`."""
    module = SimpleNamespace(
        __name__="tensorrt_rtx" if captures_itself else "tensorrt",
        TensorIOMode=SimpleNamespace(INPUT="input", OUTPUT="output"),
        nptype=lambda kind: kind,
    )
    if captures_itself:
        module.CudaGraphStrategy = SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole")
    return module


def _on_device(address: int, shape: tuple[int, ...]) -> np.ndarray:
    size = int(np.prod(shape))
    return np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(ctypes.c_float)), (size,)).reshape(shape)
