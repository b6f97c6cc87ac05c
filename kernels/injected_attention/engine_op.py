"""The op inside an engine, apart from any engine library: its serialized fields, its workspace and its launches.

The compiled kernels are launched through the CUDA driver API, in whatever context is current: without Triton and torch.
"""

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import KernelError
from .cubins import Cubin, cubins_for_device, cubins_for_heads, pack_cubins, unpack_cubins
from .op import NAME, PASSES

DTYPES = ("float16", "bfloat16")
_ALIGNMENT = 256
_CTYPES: dict[str, Any] = {"i32": ctypes.c_int32, "fp32": ctypes.c_float}
# What a kernel may have without asking, in bytes.
_PLAIN_SHARED_MEMORY = 48 * 1024


@dataclass(frozen=True, slots=True)
class EngineOp:
    """One node: its attributes, the kernels that it may need and, once attached to a CUDA context, their functions."""

    num_heads: int
    scale: float
    kernels: tuple[Cubin, ...]
    functions: Mapping[str, tuple[Cubin, Any]] = field(default_factory=dict, repr=False)

    @classmethod
    def from_fields(cls, fields: Mapping[str, np.ndarray], kernels: tuple[Cubin, ...]) -> "EngineOp":
        """From the attributes of an ONNX node, or from what `fields` has put into an engine; then with its kernels."""
        if missing := [name for name in ("num_heads", "scale") if name not in fields]:
            raise KernelError(*(f"{NAME}: expected the attribute {name}, got none" for name in missing))
        if "kernels" in fields:
            kernels = unpack_cubins(np.asarray(fields["kernels"]).tobytes())
        num_heads, scale = (np.asarray(fields[name]).reshape(-1)[0] for name in ("num_heads", "scale"))
        return cls(int(num_heads), float(scale), kernels)

    def fields(self) -> dict[str, np.ndarray]:
        """What the engine file holds of this node: the attributes, and the kernels that its inputs call for."""
        return {
            "num_heads": np.array([self.num_heads], np.int32),
            "scale": np.array([self.scale], np.float32),
            "kernels": np.frombuffer(pack_cubins(self.kernels), np.int8),
        }

    def configured(self, dtype: str, channels: int) -> "EngineOp":
        """This op for inputs of `dtype` and `channels` = heads x head width, holding the kernels for these alone."""
        problems = []
        if dtype not in DTYPES:
            problems.append(
                f"{NAME}: expected {' or '.join(DTYPES)}, got {dtype}; "
                "build this graph without the plugin, and the node's function body is used"
            )
        if channels < 1 or channels % self.num_heads:
            problems.append(f"{NAME}: expected a multiple of {self.num_heads} heads, got {channels} channels")
        if problems:
            raise KernelError(*problems)
        return replace(self, kernels=cubins_for_heads(self.kernels, dtype, channels // self.num_heads))

    def attached(self) -> "EngineOp":
        """This op with its kernels loaded into the current CUDA context."""
        chosen = cubins_for_device(self.kernels, _device_capability())
        return replace(self, functions={name: (cubin, _load_kernel(cubin)) for name, cubin in chosen.items()})

    def workspace_size(self, samples: int, queries: int) -> int:
        """Bytes for the peaks [B] and the columns [B, heads, N], both fp32."""
        return _aligned(4 * samples) + 4 * samples * self.num_heads * queries

    def enqueue(
        self, sizes: tuple[int, int, int, int], pointers: Mapping[str, int], workspace: int, stream: int
    ) -> None:
        """Queues both passes. `sizes` are B, N, T and L; `pointers` are addresses by INPUTS' names and `output`."""
        samples, queries, tokens, local_tokens = sizes
        numbers = {"heads": self.num_heads, "queries": queries, "tokens": tokens, "local_tokens": local_tokens}
        scratch = {"peaks": workspace, "columns": workspace + _aligned(4 * samples)}
        arguments = {**pointers, **numbers, **scratch, "scale": self.scale}
        _clear(workspace, samples, stream)
        for name in PASSES:
            cubin, function = self.functions[name]
            grid = (-(-queries // cubin.rows), samples * self.num_heads)
            _launch(function, cubin, grid, arguments, stream)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _device_capability() -> tuple[int, int]:
    """Compute capability of the current context's device, such as (8, 9)."""
    cu = _driver()
    device = _checked("cuCtxGetDevice", cu.cuCtxGetDevice())
    parts = cu.CUdevice_attribute
    wanted = (parts.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, parts.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)
    major, minor = (_checked("cuDeviceGetAttribute", cu.cuDeviceGetAttribute(part, device)) for part in wanted)
    return major, minor


def _load_kernel(cubin: Cubin) -> Any:
    """The kernel's function in the current context; a context loads each kernel once and keeps it."""
    cu = _driver()
    context = _checked("cuCtxGetCurrent", cu.cuCtxGetCurrent())
    return _load_once(_checked("cuCtxGetId", cu.cuCtxGetId(context)), cubin)


def _launch(function: Any, cubin: Cubin, grid: tuple[int, int], arguments: dict[str, Any], stream: int) -> None:
    """Queues one pass; arguments by name, pointers and the stream as integers."""
    kinds = [_CTYPES.get(kind, ctypes.c_void_p) for _, kind in cubin.arguments]
    # Triton's two scratch pointers, which our kernels never read.
    values = (*(arguments[name] for name, _ in cubin.arguments), 0, 0)
    parameters = (values, (*kinds, ctypes.c_void_p, ctypes.c_void_p))
    launched = _driver().cuLaunchKernel(function, *grid, 1, 32 * cubin.warps, 1, 1, cubin.shared, stream, parameters, 0)
    _checked("cuLaunchKernel", launched)


def _clear(address: int, count: int, stream: int) -> None:
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
