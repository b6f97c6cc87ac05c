"""What every form of the op agrees on: its name and inputs in a graph, and how its two passes cut their work up.

It imports nothing of a GPU's, so that the forms inside an engine can use it.
"""

from ..gpu.kernel_op import KernelOp, Tile

NAME = "BiasedAttention"
"""In the domain of all our operators, `kernels.domain`."""
INPUTS = ("query", "key", "value", "bias", "gain_max", "gain_deviation", "key_bias")
"""The node's inputs in their order; `reference.biased_attention` says what each holds."""
IN_SINGLE = frozenset(INPUTS[3:])
"""Those that are float32 whatever the query is."""
PART_ROWS = 64
"""Queries of a head whose scores the first pass sums up in one part: its tiles have as many rows in every type and head
width, so that the number of parts follows from the number of queries alone."""
PART_FACTS = 3
"""Numbers of a part: the largest score, the mean, and the sum of squares about the mean."""


def count_parts(heads: int, queries: int) -> int:
    """How many parts a sample's scores are cut into."""
    return heads * -(-queries // PART_ROWS)


def _scratch(samples: int, heads: int, queries: int) -> dict[str, int]:
    """The parts [B, PART_FACTS, parts]."""
    return {"parts": samples * PART_FACTS * count_parts(heads, queries)}


BIASED = KernelOp(
    name=NAME,
    shapes=dict(zip(INPUTS, ("BNC", "BTC", "BTC", "BNT", "B", "B", "BT"), strict=True)),
    types=dict.fromkeys((*INPUTS[3:], "parts"), "fp32"),
    dtypes=("float16", "bfloat16", "float32"),
    lengths={"queries": "N", "tokens": "T"},
    scratch=_scratch,
    cleared=frozenset(),
    # In the halves no register spills from sm_80 to sm_120 and at most 55 KiB of shared memory are taken; in float32
    # at most 16 bytes of registers spill, and 81 KiB are taken (sm_86 and sm_89 have 99).
    tiles={
        "statistics_pass": {
            (64, 2): Tile(PART_ROWS, 32, 4),
            (128, 2): Tile(PART_ROWS, 16, 4),
            (256, 2): Tile(PART_ROWS, 16, 4),
            (64, 4): Tile(PART_ROWS, 16, 4),
            (128, 4): Tile(PART_ROWS, 16, 4),
            (256, 4): Tile(PART_ROWS, 16, 8),
        },
        "raised_pass": {
            (64, 2): Tile(64, 32, 4),
            (128, 2): Tile(32, 32, 4),
            (256, 2): Tile(32, 32, 4),
            (64, 4): Tile(32, 16, 4),
            (128, 4): Tile(32, 16, 8),
            (256, 4): Tile(32, 16, 8),
        },
    },
    triton_module="x2i.kernels.biased_attention.triton_kernel",
)
"""The op's kernels for GPUs."""
