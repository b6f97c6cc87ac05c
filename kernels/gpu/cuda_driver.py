"""The compiled kernels on the CUDA driver API, in whatever context is current: without Triton and torch."""

import ctypes
from functools import cache
from types import ModuleType
from typing import Any

from ..errors import KernelError
from .cubins import Cubin

_CTYPES: dict[str, Any] = {"i32": ctypes.c_int32, "fp32": ctypes.c_float}
# What a kernel may have without asking, in bytes.
_PLAIN_SHARED_MEMORY = 48 * 1024


def device_capability() -> tuple[int, int]:
    """Compute capability of the current context's device, such as (8, 9)."""
    cu = _driver()
    device = _checked("cuCtxGetDevice", cu.cuCtxGetDevice())
    parts = cu.CUdevice_attribute
    wanted = (parts.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, parts.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)
    major, minor = (_checked("cuDeviceGetAttribute", cu.cuDeviceGetAttribute(part, device)) for part in wanted)
    return major, minor


def load_kernel(cubin: Cubin) -> Any:
    """The kernel's function in the current context; a context loads each kernel once and keeps it."""
    cu = _driver()
    context = _checked("cuCtxGetCurrent", cu.cuCtxGetCurrent())
    return _load_once(_checked("cuCtxGetId", cu.cuCtxGetId(context)), cubin)


def launch_cubin(function: Any, cubin: Cubin, grid: tuple[int, int], arguments: dict[str, Any], stream: int) -> None:
    """Queues one pass; arguments by name, pointers and the stream as integers."""
    kinds = [_CTYPES.get(kind, ctypes.c_void_p) for _, kind in cubin.arguments]
    # Triton's two scratch pointers, which our kernels never read.
    values = (*(arguments[name] for name, _ in cubin.arguments), 0, 0)
    parameters = (values, (*kinds, ctypes.c_void_p, ctypes.c_void_p))
    launched = _driver().cuLaunchKernel(function, *grid, 1, 32 * cubin.warps, 1, 1, cubin.shared, stream, parameters, 0)
    _checked("cuLaunchKernel", launched)


def clear_memory(address: int, count: int, stream: int) -> None:
    """Queues writing `count` 32-bit zeros."""
    _checked("cuMemsetD32Async", _driver().cuMemsetD32Async(address, 0, count, stream))


@cache
def _load_once(context_id: int, cubin: Cubin) -> Any:
    """`context_id` is the context's number, which is never given to another; its address may be."""
    cu = _driver()
    module = _checked("cuModuleLoadData", cu.cuModuleLoadData(cubin.image))
    function = _checked("cuModuleGetFunction", cu.cuModuleGetFunction(module, cubin.symbol.encode()))
    if cubin.shared > _PLAIN_SHARED_MEMORY:
        attribute = cu.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        _checked("cuFuncSetAttribute", cu.cuFuncSetAttribute(function, attribute, cubin.shared))
    return function


def _driver() -> ModuleType:
    try:
        from cuda.bindings import driver
    except ImportError as error:
        raise KernelError("expected the package cuda-bindings; install x2i-edge[rtx] or x2i-edge[tensorrt]") from error
    module: ModuleType = driver
    return module


def _checked(call: str, result: tuple[Any, ...]) -> Any:
    """What the call returned beside its status; raises KernelError unless that is success."""
    status, *values = result
    if int(status) != 0:
        raise KernelError(f"{call}: expected CUDA_SUCCESS, got {getattr(status, 'name', status)}")
    return values[0] if values else None
