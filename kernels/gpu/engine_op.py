"""An op inside an engine, apart from any engine library: its serialized fields, its workspace and its launches."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

import numpy as np

from ..errors import KernelError
from . import cuda_driver
from .cubins import Cubin, cubins_for_device, cubins_for_heads, pack_cubins, unpack_cubins
from .kernel_op import KernelOp

_ALIGNMENT = 256


@dataclass(frozen=True, slots=True)
class EngineOp:
    """One node: its attributes, the kernels that it may need and, once attached to a CUDA context, their functions."""

    op: KernelOp
    num_heads: int
    scale: float
    kernels: tuple[Cubin, ...]
    functions: Mapping[str, tuple[Cubin, Any]] = field(default_factory=dict, repr=False)

    @classmethod
    def from_fields(cls, op: KernelOp, fields: Mapping[str, np.ndarray], kernels: tuple[Cubin, ...]) -> "EngineOp":
        """From the attributes of an ONNX node, or from what `fields` has put into an engine; then with its kernels."""
        if missing := [name for name in ("num_heads", "scale") if name not in fields]:
            raise KernelError(*(f"{op.name}: expected the attribute {name}, got none" for name in missing))
        if "kernels" in fields:
            kernels = unpack_cubins(np.asarray(fields["kernels"]).tobytes())
        num_heads, scale = (np.asarray(fields[name]).reshape(-1)[0] for name in ("num_heads", "scale"))
        return cls(op, int(num_heads), float(scale), tuple(cubin for cubin in kernels if cubin.kernel in op.passes))

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
        if dtype not in self.op.dtypes:
            problems.append(
                f"{self.op.name}: expected {' or '.join(self.op.dtypes)}, got {dtype}; "
                "build this graph without the plugin, and the node's function body is used"
            )
        if channels < 1 or channels % self.num_heads:
            problems.append(f"{self.op.name}: expected a multiple of {self.num_heads} heads, got {channels} channels")
        if problems:
            raise KernelError(*problems)
        kernels = cubins_for_heads(self.kernels, self.op.name, dtype, channels // self.num_heads)
        return replace(self, kernels=kernels)

    def attached(self) -> "EngineOp":
        """This op with its kernels loaded into the current CUDA context."""
        chosen = cubins_for_device(self.kernels, self.op.passes, cuda_driver.device_capability())
        functions = {name: (cubin, cuda_driver.load_kernel(cubin)) for name, cubin in chosen.items()}
        return replace(self, functions=functions)

    def workspace_size(self, samples: int, queries: int) -> int:
        """Bytes for the op's scratch."""
        return sum(_aligned(4 * count) for count in self.op.scratch(samples, self.num_heads, queries).values())

    def enqueue(
        self, shapes: Mapping[str, tuple[int, ...]], pointers: Mapping[str, int], workspace: int, stream: int
    ) -> None:
        """Queues all passes, for `shapes` of the inputs; `pointers` are addresses of the inputs and of `output`."""
        sizes = self.op.sizes(shapes)
        samples, queries = sizes["B"], sizes["N"]
        counts = self.op.scratch(samples, self.num_heads, queries)
        offsets = accumulate((_aligned(4 * count) for count in counts.values()), initial=workspace)
        scratch = dict(zip(counts, offsets, strict=False))
        lengths = {name: sizes[letter] for name, letter in self.op.lengths.items()}
        arguments = {**pointers, **lengths, **scratch, "heads": self.num_heads, "scale": self.scale}
        for name in self.op.cleared:
            cuda_driver.clear_memory(scratch[name], counts[name], stream)
        for name in self.op.passes:
            cubin, function = self.functions[name]
            grid = (-(-queries // cubin.rows), samples * self.num_heads)
            cuda_driver.launch_cubin(function, cubin, grid, arguments, stream)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
