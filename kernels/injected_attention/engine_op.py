"""The op inside an engine, apart from any engine library: its serialized fields, workspace and launches."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import KernelError
from . import cubins, driver
from .cubins import Cubin

INPUTS = ("query", "key", "value", "local_key", "local_value", "token_index", "strength")
DTYPES = ("float16", "bfloat16")
_ALIGNMENT = 256


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
            raise KernelError(*(f"InjectedAttention: expected the attribute {name}, got none" for name in missing))
        if "kernels" in fields:
            kernels = cubins.unpack(np.asarray(fields["kernels"]).tobytes())
        num_heads, scale = (np.asarray(fields[name]).reshape(-1)[0] for name in ("num_heads", "scale"))
        return cls(int(num_heads), float(scale), kernels)

    def fields(self) -> dict[str, np.ndarray]:
        """What the engine file holds of this node: the attributes, and the kernels that its inputs call for."""
        return {
            "num_heads": np.array([self.num_heads], np.int32),
            "scale": np.array([self.scale], np.float32),
            "kernels": np.frombuffer(cubins.pack(self.kernels), np.int8),
        }

    def configured(self, dtype: str, channels: int) -> "EngineOp":
        """This op for inputs of `dtype` and `channels` = heads x head width, holding the kernels for these alone."""
        problems = []
        if dtype not in DTYPES:
            problems.append(
                f"InjectedAttention: expected {' or '.join(DTYPES)}, got {dtype}; "
                "build this graph without the plugin, and the node's function body is used"
            )
        if channels < 1 or channels % self.num_heads:
            problems.append(
                f"InjectedAttention: expected a multiple of {self.num_heads} heads, got {channels} channels"
            )
        if problems:
            raise KernelError(*problems)
        return replace(self, kernels=cubins.for_heads(self.kernels, dtype, channels // self.num_heads))

    def attached(self) -> "EngineOp":
        """This op with its kernels loaded into the current CUDA context."""
        chosen = cubins.for_device(self.kernels, driver.capability())
        return replace(self, functions={name: (cubin, driver.load(cubin)) for name, cubin in chosen.items()})

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
        driver.clear(workspace, samples, stream)
        for name in ("global_pass", "local_pass"):
            cubin, function = self.functions[name]
            grid = (-(-queries // cubin.rows), samples * self.num_heads)
            driver.launch(function, cubin, grid, arguments, stream)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
