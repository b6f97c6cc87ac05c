"""The kernel in models of OpenVINO: put in the place of attention that is found there."""

from collections.abc import Callable

import openvino
from openvino import Output, Type
from openvino import opset13 as ops
from openvino.utils.node_factory import NodeFactory

from .library import Library, find_library
from .pattern import AttentionShape, FoundAttention, find_attention

OPERATION = "CpuAttention"
"""The operation's type, as OpenVINO's counters show it."""
PRODUCTS = ("bf16", "int8")
"""What the product of queries and keys may be computed in; that with the values is in bfloat16."""


class CpuAttention:
    """The kernel of a library, ready for models of OpenVINO."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._factory = NodeFactory("opset13")
        self._factory.add_extension(str(library.path))

    @property
    def source(self) -> str:
        """Digest of the sources that it was compiled from."""
        return self._library.source

    @property
    def extension(self) -> str:
        """What an openvino.Core must be given before it compiles or imports a model with the kernel."""
        return str(self._library.path)

    def replace(
        self, model: openvino.Model, products: str, bf16: bool, wanted: Callable[[AttentionShape], bool]
    ) -> tuple[list[AttentionShape], list[AttentionShape]]:
        """Puts the kernel in the place of a model's attention where `wanted` says so of its sizes.

        `products` is one of PRODUCTS; `bf16` says that the model is computed in bfloat16, which the kernel then reads
        and writes. Returns the sizes of those that were replaced, and of those that were left.
        """
        found = find_attention(model)
        chosen = [one for one in found if _readable(one) and wanted(one.shape)]
        for one in chosen:
            self._put(one, products, bf16)
        return [one.shape for one in chosen], [one.shape for one in found if one not in chosen]

    def node(self, inputs: tuple[Output, ...], heads: int, scale: float, products: str) -> openvino.Node:
        """The operation itself: query [B, N, C], key and value [B, M, C], and for the injected form second key and
        value [B, L, C], token int32 [B] and strength float32 [B]; float32 or bfloat16; returns [B, N, C]."""
        assert products in PRODUCTS, products
        return self._factory.create(
            OPERATION, list(inputs), {"heads": heads, "scale": scale, "int8": products == "int8"}
        )

    def _put(self, one: FoundAttention, products: str, bf16: bool) -> None:
        tensors, rest = one.inputs[:5], one.inputs[5:]
        if bf16:
            tensors = tuple(ops.convert(tensor, "bf16").output(0) for tensor in tensors)
        rest = tuple(ops.convert(tensor, kind).output(0) for tensor, kind in zip(rest, ("i32", "f32"), strict=False))
        made = self.node((*tensors, *rest), one.heads, one.scale, products)
        made.set_friendly_name(f"{OPERATION}/{one.output.get_node().get_friendly_name()}")
        one.output.replace(ops.convert(made, "f32").output(0) if bf16 else made.output(0))


def _readable(one: FoundAttention) -> bool:
    """The kernel reads float32; what a graph has in half precision stays as it is written."""
    return all(tensor.get_element_type() == Type.f32 for tensor in one.inputs[:5])


def open_kernel(cpu_flags: frozenset[str] | None = None) -> CpuAttention:
    """The kernel that can be used here, on a CPU with these features, in the words of Linux, where they are known.

    Raises KernelError, KernelMissing among them, with the reason where none can.
    """
    return CpuAttention(find_library(cpu_flags))
