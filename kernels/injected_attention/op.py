"""What every form of the op agrees on: its name and inputs in a graph, and how its two passes cut their work up.

It imports nothing, so that the forms inside an engine can use it.
"""

from dataclasses import dataclass

DOMAIN, NAME, VERSION = "x2i", "InjectedAttention", 1
ATTRIBUTES = {"plugin_namespace": DOMAIN, "plugin_version": str(VERSION)}
"""Attributes besides `num_heads` and `scale`, by which TensorRT finds the plugin."""
INPUTS = ("query", "key", "value", "local_key", "local_value", "token_index", "strength")
"""The node's inputs in their order; `reference.injected_attention` says what each holds."""
PASSES = ("global_pass", "local_pass")
"""The two kernels, in the order of their launches."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One program takes `rows` queries and reads `columns` keys at a time with `warps` warps."""

    rows: int
    columns: int
    warps: int
    stages: int = 2


# No register spills from sm_80 to sm_120, and at most 50 KiB of shared memory (sm_86 and sm_89 have 99). The usual 77
# context tokens fill 96 columns in blocks of 32, and 80 in blocks of 16.
_TILES = {
    "global_pass": {64: Tile(64, 32, 4), 128: Tile(64, 16, 4), 256: Tile(32, 32, 4)},
    "local_pass": {64: Tile(64, 64, 4), 128: Tile(64, 32, 4), 256: Tile(32, 32, 4)},
}
MAX_HEAD_WIDTH = 256
"""Channels of the widest head that the kernels take."""


def padded_width(head_width: int) -> int:
    """The power of two, 16 at least, that a head is padded to inside the kernels."""
    return max(16, 1 << (head_width - 1).bit_length())


def kernel_tile(kernel: str, head_width: int) -> Tile:
    """The tile of one pass, `global_pass` or `local_pass`, for a head width of at most MAX_HEAD_WIDTH."""
    return _TILES[kernel][max(64, padded_width(head_width))]
