"""What discrete diffusion does with log-probabilities: softmax, guidance, truncation and draws.

Classes are the last axis everywhere. Source: VQ-Diffusion (arXiv 2111.14822) and Improved VQ-Diffusion (arXiv
2205.16007), in the arithmetic of their code: float64 where it has float64, float32 elsewhere.
"""

import math

import numpy as np

from .row_blocks import for_each_block

LEAST = np.float32(-70.0)
"""The log-probability that stands for none."""
TINY = np.float32(1e-30)
LOG_TINY = np.log(TINY)
"""What a one-hot array has beside its token."""
LOOKED_AT = 4
"""Truncation looks at the likeliest fourth of the classes first, which hold most rates of what a network has learnt."""


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities of float32 logits [..., K], computed in float64, float32, at least `LEAST`."""
    rows = logits.reshape(-1, logits.shape[-1])
    made = np.empty(rows.shape, np.float32)

    def work(block: slice) -> None:
        values = rows[block].astype(np.float64)
        values -= values.max(axis=-1, keepdims=True)
        values -= np.log(np.exp(values).sum(axis=-1, keepdims=True))
        np.clip(values, LEAST, 0, out=made[block], casting="same_kind")

    for_each_block(*rows.shape, work)
    return made.reshape(logits.shape)


def guided_log_probabilities(unconditional: np.ndarray, conditional: np.ndarray, scale: float) -> np.ndarray:
    """Guidance of float32 log-probabilities [..., K]: u + scale (c - u), made probabilities again."""
    empty, full = (values.reshape(-1, values.shape[-1]) for values in (unconditional, conditional))
    made = np.empty(full.shape, np.float32)

    def work(block: slice) -> None:
        guided = np.subtract(full[block], empty[block], out=made[block])
        guided *= np.float32(scale)
        guided += empty[block]
        guided -= log_sum_exp(guided)
        np.clip(guided, LEAST, 0, out=guided)

    for_each_block(*full.shape, work)
    return made.reshape(conditional.shape)


def log_sum_exp(values: np.ndarray) -> np.ndarray:
    """log(sum(exp(values))) over the last axis, which stays with one entry, in float32."""
    most = values.max(axis=-1, keepdims=True)
    return most + np.log(np.exp(values - most).sum(axis=-1, keepdims=True))


def log_add_exp(one: np.ndarray, other: np.ndarray | np.floating) -> np.ndarray:
    """log(exp(one) + exp(other)) of float32 values; two infinitely small ones are infinitely small."""
    most = np.maximum(one, other)
    with np.errstate(invalid="ignore"):
        added = most + np.log(np.exp(one - most) + np.exp(other - most))
    return np.where(np.isneginf(most), most, added)


def with_mask_class(values: np.ndarray) -> np.ndarray:
    """[..., K] with one class more, the mask, which is none."""
    return np.concatenate([values, np.full((*values.shape[:-1], 1), LEAST, np.float32)], axis=-1)


def truncated(log_probabilities: np.ndarray, rate: float) -> np.ndarray:
    """The likeliest classes [..., K] whose likelier ones together have less than `rate`; the others become `LEAST`.

    The likeliest stays in any case, and of equally likely ones the first. Sums are of float64, rounded to float32
    before they are compared. Whether the mask is among the classes makes no difference.
    """
    rows = log_probabilities.reshape(-1, log_probabilities.shape[-1])
    made = np.empty(rows.shape, np.float32)

    def work(block: slice) -> None:
        made[block] = _truncated_rows(rows[block], np.float32(rate))

    for_each_block(*rows.shape, work)
    return made.reshape(log_probabilities.shape)


def _truncated_rows(rows: np.ndarray, rate: np.float32) -> np.ndarray:
    """Keeps what is at least as likely as the last class kept: sorting the values alone is faster than their order."""
    last, kept, tied = _last_kept(rows, _likely_sorted(rows, rate), rate, max(1, rows.shape[-1] // LOOKED_AT))
    made = np.where(rows >= last, rows, LEAST)
    drawn = np.flatnonzero(tied & (last > LEAST))
    if len(drawn):
        equal = rows[drawn] == last[drawn]
        room = kept[drawn] - np.count_nonzero(rows[drawn] > last[drawn], axis=-1, keepdims=True)
        made[drawn] = np.where(equal & (np.cumsum(equal, axis=-1) > room), LEAST, made[drawn])
    return made


def _likely_sorted(rows: np.ndarray, rate: np.float32) -> np.ndarray:
    """Each row's values, the least first, without those that can hardly be kept: all below them together have less than
    1 - `rate`, whatever they are. In their place, and where rows have fewer than others, `LEAST` comes first.

    np.partition would do for the likeliest, but takes ten times as long where most classes are at `LEAST`.
    """
    classes = rows.shape[-1]
    enough = np.float32(math.log((1 - rate) / classes) if rate < 1 else LEAST)
    likely = rows >= np.minimum(rows.max(axis=-1, keepdims=True), enough)
    counts = np.count_nonzero(likely, axis=-1, keepdims=True)
    width = int(counts.max())
    if width * 2 > classes:
        return np.sort(rows, axis=-1)
    chosen = np.full((len(rows), width), LEAST, np.float32)
    chosen[np.arange(width) >= width - counts] = rows[likely]
    chosen.sort(axis=-1)
    return chosen


def _last_kept(
    rows: np.ndarray, ascending: np.ndarray, rate: np.float32, several: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each row the least value kept, how many are, and whether another class is as likely as the last, [n, 1].

    `ascending` holds the rows' likeliest classes, sorted, of which the last `several` are added up; where those have
    less than `rate` together, all classes are.
    """
    classes, width = rows.shape[-1], ascending.shape[-1]
    several = min(several, width)
    sums = _exact_exp(ascending[:, width - several :])[:, ::-1].astype(np.float64)
    below = np.cumsum(sums, axis=-1, out=sums).astype(np.float32) < rate
    kept = 1 + np.count_nonzero(below[:, :-1], axis=-1, keepdims=True)
    last = np.take_along_axis(ascending, width - kept, axis=-1)
    tied = (kept < width) & (np.take_along_axis(ascending, np.maximum(width - kept - 1, 0), axis=-1) == last)
    more = np.flatnonzero(below[:, -1]) if several < classes else ()
    if len(more):
        every = ascending[more] if width == classes else np.sort(rows[more], axis=-1)
        last[more], kept[more], tied[more] = _last_kept(rows[more], every, rate, classes)
    return last, kept, tied


def _exact_exp(values: np.ndarray) -> np.ndarray:
    """The exponential of float32 values rounded once, as torch has it; numpy's own may be off by two bits."""
    wide = values.astype(np.float64)
    return np.exp(wide, out=wide).astype(np.float32)


def gumbel(uniform: np.ndarray) -> np.ndarray:
    """Gumbel noise of float32 uniform draws."""
    return -np.log(-np.log(uniform + TINY) + TINY)


def draw(log_probabilities: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """One token, int64 [...], of each row of log-probabilities [..., K], by as many uniform draws."""
    rows, draws = (values.reshape(-1, values.shape[-1]) for values in (log_probabilities, uniform))
    tokens = np.empty(len(rows), np.int64)

    def work(block: slice) -> None:
        noise = gumbel(draws[block])
        noise += rows[block]
        tokens[block] = noise.argmax(axis=-1)

    for_each_block(*rows.shape, work)
    return tokens.reshape(log_probabilities.shape[:-1])


def log_one_hot(tokens: np.ndarray, classes: int) -> np.ndarray:
    """float32 [..., classes]: 0 at the token, `LOG_TINY` elsewhere."""
    values = np.full((*tokens.shape, classes), LOG_TINY, np.float32)
    np.put_along_axis(values, tokens[..., None], np.float32(0), axis=-1)
    return values
