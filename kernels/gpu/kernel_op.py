"""An operator with kernels for GPUs, as data: what they read, how they cut their work up, and what they leave behind.

It imports nothing of a GPU's, so that the forms inside an engine can use it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

MAX_HEAD_WIDTH = 256
"""Channels of the widest head that the kernels take."""
TRITON_TYPES = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32"}
"""Types of queries, keys and values that kernels may take, with Triton's names of them."""
_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4}
# Narrower heads take the tiles of this width.
_LEAST_WIDTH = 64


@dataclass(frozen=True, slots=True)
class Tile:
    """One program takes `rows` queries and reads `columns` keys at a time with `warps` warps."""

    rows: int
    columns: int
    warps: int
    stages: int = 2


@dataclass(frozen=True, slots=True, eq=False)
class KernelOp:
    """An attention over [B, N, C] queries, computed by one kernel after the other on one stream.

    All kernels have the grid (ceil(N / rows), B heads), and name their arguments alike: the inputs, `heads`, the
    `lengths`, `scale`, `output` and the scratch.
    """

    name: str
    shapes: Mapping[str, str]
    """The inputs in their order, each with a letter a dimension: BNC is [B, N, C]. The first is the query, whose type
    the output has."""
    types: Mapping[str, str]
    """Triton's names of the types of those inputs and scratch tensors that do not have the query's."""
    dtypes: tuple[str, ...]
    """Types that the query may have."""
    lengths: Mapping[str, str]
    """Whole numbers among the arguments, each with the letter of the dimension that it is."""
    scratch: Callable[[int, int, int], Mapping[str, int]]
    """From B, heads and N to what the kernels hand each other: how many float32 each tensor has."""
    cleared: frozenset[str]
    """Scratch that is zero before the first launch."""
    tiles: Mapping[str, Mapping[tuple[int, int], Tile]]
    """The kernels in the order of their launches: the tiles of each, by a padded head's width, 64 at least, and the
    bytes of a number."""
    triton_module: str
    """Dotted name of the module with the kernels, which is imported only to compile them."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Their names in the node's order."""
        return tuple(self.shapes)

    @property
    def passes(self) -> tuple[str, ...]:
        """The kernels' names in the order of their launches."""
        return tuple(self.tiles)

    def tile(self, kernel: str, dtype: str, head_width: int) -> Tile:
        """How one of the kernels is cut for a type of `dtypes` and heads of at most MAX_HEAD_WIDTH channels."""
        return self.tiles[kernel][max(_LEAST_WIDTH, padded_width(head_width)), _BYTES[dtype]]

    def sizes(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
        """Every letter's size, by the first input that has it."""
        found: dict[str, int] = {}
        for name, letters in self.shapes.items():
            for letter, size in zip(letters, shapes[name], strict=True):
                found.setdefault(letter, size)
        return found

    def argument_type(self, name: str, dtype: str) -> str:
        """Triton's name of an argument's type, for queries of `dtype`."""
        if name == "scale":
            return "fp32"
        if name == "heads" or name in self.lengths:
            return "i32"
        return f"*{self.types.get(name, TRITON_TYPES[dtype])}"


def padded_width(head_width: int) -> int:
    """The power of two, 16 at least, that a head is padded to inside the kernels."""
    return max(16, 1 << (head_width - 1).bit_length())
