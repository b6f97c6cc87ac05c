"""What the attention kernels share: a head's part of a tensor, and the online softmax of FlashAttention
(arXiv 2205.14135), in fp32 throughout."""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
"""Scores times this are exponents of 2, which a GPU computes fastest."""


@triton.jit
def head_tile(rows, length, heads, count, HEAD_WIDTH: tl.constexpr, WIDTH: tl.constexpr):
    """Offsets of this program's head in a [B, count, heads HEAD_WIDTH] tensor at `rows`, and which of them exist."""
    sample = (tl.program_id(1) // heads).to(tl.int64)
    start = sample * count * heads * HEAD_WIDTH + (tl.program_id(1) % heads) * HEAD_WIDTH
    depth = tl.arange(0, WIDTH)
    offsets = start + rows[:, None] * (heads * HEAD_WIDTH) + depth[None, :]
    return offsets, (rows[:, None] < length) & (depth[None, :] < HEAD_WIDTH)


@triton.jit
def absorb(scores, value, top, mass, attended):
    """The running maximum [ROWS], sum [ROWS] and attended values [ROWS, WIDTH] with one more block of keys in them.

    scores [ROWS, COLUMNS] are exponents of 2, minus infinity where there is no key; value [COLUMNS, WIDTH]. Where a
    first block may have none, `top` starts as a finite number. Float32 values are multiplied as what they are.
    """
    new_top = tl.maximum(top, tl.max(scores, 1))
    shrink = tl.exp2(top - new_top)
    weights = tl.exp2(scores - new_top[:, None])
    mass = mass * shrink + tl.sum(weights, 1)
    attended = tl.dot(weights.to(value.dtype), value, attended * shrink[:, None], input_precision="ieee")
    return new_top, mass, attended
