"""What every form of the op agrees on: its name and inputs in a graph, and how its two passes cut their work up.

It imports nothing of a GPU's, so that the forms inside an engine can use it.
"""

from ..gpu.kernel_op import KernelOp, Tile

NAME = "InjectedAttention"
"""In the domain of all our operators, `kernels.domain`."""
INPUTS = ("query", "key", "value", "local_key", "local_value", "token_index", "strength")
"""The node's inputs in their order; `reference.injected_attention` says what each holds."""


def _scratch(samples: int, heads: int, queries: int) -> dict[str, int]:
    """The peaks [B] and the columns [B, heads, N]."""
    return {"peaks": samples, "columns": samples * heads * queries}


INJECTED = KernelOp(
    name=NAME,
    shapes=dict(zip(INPUTS, ("BNC", "BTC", "BTC", "BLC", "BLC", "B", "B"), strict=True)),
    types={"token_index": "i64", "strength": "fp32", "peaks": "fp32", "columns": "fp32"},
    dtypes=("float16", "bfloat16"),
    lengths={"queries": "N", "tokens": "T", "local_tokens": "L"},
    scratch=_scratch,
    cleared=frozenset({"peaks"}),
    # No register spills from sm_80 to sm_120, and at most 50 KiB of shared memory (sm_86 and sm_89 have 99). The usual
    # 77 context tokens fill 96 columns in blocks of 32, and 80 in blocks of 16.
    tiles={
        "global_pass": {(64, 2): Tile(64, 32, 4), (128, 2): Tile(64, 16, 4), (256, 2): Tile(32, 32, 4)},
        "local_pass": {(64, 2): Tile(64, 64, 4), (128, 2): Tile(64, 32, 4), (256, 2): Tile(32, 32, 4)},
    },
    triton_module="x2i.kernels.injected_attention.triton_kernel",
)
"""The op's kernels for GPUs."""
