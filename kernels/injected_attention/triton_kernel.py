"""The op as two Triton kernels that never write a probability matrix.

The first is attention over the context; it also writes the token's probability of every row and their maximum per
sample. The second runs after it on the same stream: attention over the local tokens, whose result it adds, weighted,
to what the first has written.
"""

import triton
import triton.language as tl

from ..gpu.online_softmax import LOG2_E, absorb, head_tile


@triton.jit
def global_pass(
    query,
    key,
    value,
    token_index,
    heads,
    queries,
    tokens,
    scale,
    output,
    columns,
    peaks,
    HEAD_WIDTH: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """output = softmax(scale query keyᵀ) value; columns [B, heads, N] fp32; peaks [B] fp32, zero before the launch.

    One program takes ROWS queries of one head: grid (ceil(N / ROWS), B heads). Where token_index is below 0, nothing
    is written to columns and peaks. Without peaks (None) the caller finds the maximum of columns.
    """
    sample = tl.program_id(1) // heads
    token = tl.load(token_index + sample).to(tl.int32)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    at, inside = head_tile(rows, queries, heads, queries, HEAD_WIDTH, WIDTH)
    attended, probability = _attend(
        tl.load(query + at, mask=inside, other=0.0),
        key,
        value,
        tokens,
        heads,
        scale,
        token,
        HEAD_WIDTH,
        WIDTH,
        ROWS,
        COLUMNS,
    )
    tl.store(output + at, attended.to(output.dtype.element_ty), mask=inside)
    if token >= 0:
        probability = tl.where(rows < queries, probability, 0.0)
        tl.store(columns + tl.program_id(1).to(tl.int64) * queries + rows, probability, mask=rows < queries)
        if peaks is not None:
            tl.atomic_max(peaks + sample, tl.max(probability, 0))


@triton.jit
def local_pass(
    query,
    local_key,
    local_value,
    token_index,
    strength,
    attended,
    columns,
    peaks,
    heads,
    queries,
    local_tokens,
    scale,
    output,
    HEAD_WIDTH: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """output = attended + strength columns / peaks softmax(scale query local_keyᵀ) local_value.

    Without attended (None) it is added to what output holds, and a sample of strength 0 is not touched. The grid is the
    first pass's, with this pass's ROWS.
    """
    sample = tl.program_id(1) // heads
    weight = tl.load(strength + sample)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    at, inside = head_tile(rows, queries, heads, queries, HEAD_WIDTH, WIDTH)
    if attended is None:
        attended = output
    elif weight == 0.0:
        tl.store(output + at, tl.load(attended + at, mask=inside), mask=inside)
    if weight == 0.0:
        return
    local, _ = _attend(
        tl.load(query + at, mask=inside, other=0.0),
        local_key,
        local_value,
        local_tokens,
        heads,
        scale,
        None,
        HEAD_WIDTH,
        WIDTH,
        ROWS,
        COLUMNS,
    )
    mask = tl.full([ROWS], 1.0, tl.float32)
    if tl.load(token_index + sample) >= 0:
        column = tl.load(columns + tl.program_id(1).to(tl.int64) * queries + rows, mask=rows < queries, other=0.0)
        mask = column / tl.load(peaks + sample)
    total = tl.load(attended + at, mask=inside, other=0.0).to(tl.float32) + local * (weight * mask)[:, None]
    tl.store(output + at, total.to(output.dtype.element_ty), mask=inside)


@triton.jit
def _attend(
    query,
    keys,
    values,
    length,
    heads,
    scale,
    token,
    HEAD_WIDTH: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Online softmax over `length` keys: the attended values [ROWS, WIDTH] and the token's probability [ROWS].

    The token's score waits for the last block, when the row's maximum and sum are known; a token that no key has
    gets probability 0, and None leaves the score out.
    """
    top = tl.full([ROWS], float("-inf"), tl.float32)
    mass = tl.zeros([ROWS], tl.float32)
    token_score = tl.full([ROWS], float("-inf"), tl.float32)
    attended = tl.zeros([ROWS, WIDTH], tl.float32)
    for start in range(0, length, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        at, inside = head_tile(columns, length, heads, length, HEAD_WIDTH, WIDTH)
        key = tl.load(keys + at, mask=inside, other=0.0)
        scores = tl.dot(query, tl.trans(key)) * (scale * LOG2_E)
        scores = tl.where(columns[None, :] < length, scores, float("-inf"))
        if token is not None:
            found = tl.where(columns[None, :] == token, scores, float("-inf"))
            token_score = tl.maximum(token_score, tl.max(found, 1))
        value = tl.load(values + at, mask=inside, other=0.0)
        top, mass, attended = absorb(scores, value, top, mass, attended)
    return attended / mass[:, None], tl.exp2(token_score - top) / mass
