"""The op as two Triton kernels that never write a score or a probability.

The first sums up the scores: of each block of queries of a head the maximum, the mean and the sum of squares about it.
The second runs after it on the same stream. Each of its programs merges its sample's parts, all in one order, so that a
sample's statistics are the same bits in every program and every batch; then it attends.

Both merge by the formula of Chan, Golub and LeVeque ("Updating Formulae and a Pairwise Algorithm for Computing Sample
Variances", 1979), which loses nothing where scores are large and alike. A sample without gains skips it all.
"""

import triton
import triton.language as tl

from ..gpu.online_softmax import LOG2_E, absorb, head_tile
from . import op

PART_ROWS = tl.constexpr(op.PART_ROWS)
PART_FACTS = tl.constexpr(op.PART_FACTS)
# Parts that are merged at a time.
MERGED = tl.constexpr(256)
# Where maxima start: below every score, and finite, so that masked keys may come first.
LOWEST = tl.constexpr(-3.0e38)


@triton.jit
def statistics_pass(
    query,
    key,
    gain_max,
    gain_deviation,
    heads,
    queries,
    tokens,
    scale,
    parts,
    HEAD_WIDTH: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """parts [B, PART_FACTS, heads ceil(N / ROWS)] fp32, of the scores scale query keyᵀ.

    One program takes ROWS queries of one head, PART_ROWS of them: grid (ceil(N / ROWS), B heads). Of a sample whose
    gains are both 0 nothing is written.
    """
    sample = tl.program_id(1) // heads
    if (tl.load(gain_max + sample) == 0.0) & (tl.load(gain_deviation + sample) == 0.0):
        return
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    height = tl.minimum(queries - tl.program_id(0) * ROWS, ROWS)
    at, inside = head_tile(rows, queries, heads, queries, HEAD_WIDTH, WIDTH)
    block = tl.load(query + at, mask=inside, other=0.0)
    peak = tl.full([], float("-inf"), tl.float32)
    mean = tl.full([], 0.0, tl.float32)
    squares = tl.full([], 0.0, tl.float32)
    for start in range(0, tokens, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        keys_at, keys_inside = head_tile(columns, tokens, heads, tokens, HEAD_WIDTH, WIDTH)
        keys = tl.load(key + keys_at, mask=keys_inside, other=0.0)
        scores = tl.dot(block, tl.trans(keys), input_precision="ieee") * scale
        exist = (rows[:, None] < queries) & (columns[None, :] < tokens)
        before = (height * start).to(tl.float32)
        count = (height * tl.minimum(tokens - start, COLUMNS)).to(tl.float32)
        block_mean = tl.sum(tl.where(exist, scores, 0.0)) / count
        centred = tl.where(exist, scores - block_mean, 0.0)
        share = count / (before + count)
        peak = tl.maximum(peak, tl.max(tl.where(exist, scores, float("-inf"))))
        squares += tl.sum(centred * centred) + (block_mean - mean) * (block_mean - mean) * (before * share)
        mean += (block_mean - mean) * share
    blocks = tl.cdiv(queries, ROWS)
    place = (tl.program_id(1) % heads) * blocks + tl.program_id(0)
    facts = parts + sample.to(tl.int64) * (PART_FACTS * heads * blocks) + place
    tl.store(facts, peak)
    tl.store(facts + heads * blocks, mean)
    tl.store(facts + 2 * heads * blocks, squares)


@triton.jit
def raised_pass(
    query,
    key,
    value,
    bias,
    gain_max,
    gain_deviation,
    key_bias,
    parts,
    heads,
    queries,
    tokens,
    scale,
    output,
    HEAD_WIDTH: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """output = softmax(scale query keyᵀ + bias rise + key_bias) value, where the first pass has left its parts.

    `rise` is gain_max times the largest of the sample's scaled scores and gain_deviation times their deviation. Without
    a rise the bias is not read. The grid is the first pass's, with this pass's ROWS.
    """
    sample = tl.program_id(1) // heads
    rise = _rise(parts, tl.load(gain_max + sample), tl.load(gain_deviation + sample), heads, queries, tokens)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    output_at, rows_inside = head_tile(rows, queries, heads, queries, HEAD_WIDTH, WIDTH)
    block = tl.load(query + output_at, mask=rows_inside, other=0.0)
    biased = tl.where(rise == 0.0, 0, tokens)
    bias_rows = (sample.to(tl.int64) * queries + rows[:, None]) * tokens
    top = tl.full([ROWS], LOWEST, tl.float32)
    mass = tl.zeros([ROWS], tl.float32)
    attended = tl.zeros([ROWS, WIDTH], tl.float32)
    for start in range(0, tokens, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        keys_at, keys_inside = head_tile(columns, tokens, heads, tokens, HEAD_WIDTH, WIDTH)
        keys = tl.load(key + keys_at, mask=keys_inside, other=0.0)
        scores = tl.dot(block, tl.trans(keys), input_precision="ieee") * scale
        raised = (rows[:, None] < queries) & (columns[None, :] < biased)
        scores += tl.load(bias + bias_rows + columns[None, :], mask=raised, other=0.0) * rise
        # Where there is no key, minus infinity is what is added.
        added = tl.load(key_bias + sample * tokens + columns, mask=columns < tokens, other=float("-inf"))
        scores = (scores + added[None, :]) * LOG2_E
        values = tl.load(value + keys_at, mask=keys_inside, other=0.0)
        top, mass, attended = absorb(scores, values, top, mass, attended)
    tl.store(output + output_at, (attended / mass[:, None]).to(output.dtype.element_ty), mask=rows_inside)


@triton.jit
def _rise(parts, gain_max, gain_deviation, heads, queries, tokens):
    """What a bias of 1 adds to this program's sample's scaled scores; of a gain of 0 nothing is read."""
    blocks = tl.cdiv(queries, PART_ROWS)
    count = heads * blocks
    parts += (tl.program_id(1) // heads).to(tl.int64) * (PART_FACTS * count)
    rise = tl.full([], 0.0, tl.float32)
    if gain_max != 0.0:
        peaks = tl.full([MERGED], float("-inf"), tl.float32)
        for start in range(0, count, MERGED):
            part = start + tl.arange(0, MERGED)
            peaks = tl.maximum(peaks, tl.load(parts + part, mask=part < count, other=float("-inf")))
        rise += gain_max * tl.max(peaks, 0)
    if gain_deviation != 0.0:
        numbers = tl.zeros([MERGED], tl.float32)
        sums = tl.zeros([MERGED], tl.float32)
        for start in range(0, count, MERGED):
            part = start + tl.arange(0, MERGED)
            number = _scores_of(part, count, blocks, queries, tokens)
            numbers += number
            sums += number * tl.load(parts + count + part, mask=part < count, other=0.0)
        number_of_all = tl.sum(numbers, 0)
        mean = tl.sum(sums, 0) / number_of_all
        squares = tl.zeros([MERGED], tl.float32)
        for start in range(0, count, MERGED):
            part = start + tl.arange(0, MERGED)
            apart = tl.load(parts + count + part, mask=part < count, other=0.0) - mean
            squares += tl.load(parts + 2 * count + part, mask=part < count, other=0.0)
            squares += _scores_of(part, count, blocks, queries, tokens) * apart * apart
        rise += gain_deviation * tl.sqrt(tl.sum(squares, 0) / (number_of_all - 1.0))
    return rise


@triton.jit
def _scores_of(part, count, blocks, queries, tokens):
    """How many scores each part has: none where there is no part."""
    rows = tl.minimum(queries - part % blocks * PART_ROWS, PART_ROWS)
    return tl.where(part < count, rows * tokens, 0).to(tl.float32)
