"""What discrete diffusion does with log-probabilities: softmax, guidance, truncation and draws.

Classes are the last axis everywhere. Source: VQ-Diffusion (arXiv 2111.14822) and Improved VQ-Diffusion (arXiv
2205.16007), in the arithmetic of their code: float64 where it has float64, float32 elsewhere.
"""

from collections.abc import Iterator

import numpy as np

LEAST = np.float32(-70.0)
"""The log-probability that stands for none."""
TINY = np.float32(1e-30)
LOG_TINY = np.log(TINY)
"""What a one-hot array has beside its token."""
BLOCK_VALUES = 1 << 17
"""What is worked on at once: with its float64 copies it stays in a core's second cache, where passes cost little."""
LOOKED_AT = 4
"""Truncation looks at the likeliest fourth of the classes first, which hold most rates of what a network has learnt."""


def row_blocks(values: np.ndarray) -> Iterator[slice]:
    """Parts of the rows [n, classes] of an array, one after the other, each of about `BLOCK_VALUES` values."""
    rows, classes = values.shape
    several = max(1, BLOCK_VALUES // classes)
    return (slice(first, first + several) for first in range(0, rows, several))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities of float32 logits [..., K], computed in float64, float32, at least `LEAST`."""
    rows = logits.reshape(-1, logits.shape[-1])
    made = np.empty(rows.shape, np.float32)
    for block in row_blocks(rows):
        values = rows[block].astype(np.float64)
        values -= values.max(axis=-1, keepdims=True)
        values -= np.log(np.exp(values).sum(axis=-1, keepdims=True))
        np.clip(values, LEAST, 0, out=made[block], casting="same_kind")
    return made.reshape(logits.shape)


def guided_log_probabilities(unconditional: np.ndarray, conditional: np.ndarray, scale: float) -> np.ndarray:
    """Guidance of float32 log-probabilities [..., K]: u + scale (c - u), made probabilities again."""
    empty, full = (values.reshape(-1, values.shape[-1]) for values in (unconditional, conditional))
    made = np.empty(full.shape, np.float32)
    for block in row_blocks(full):
        guided = np.subtract(full[block], empty[block], out=made[block])
        guided *= np.float32(scale)
        guided += empty[block]
        guided -= log_sum_exp(guided)
        np.clip(guided, LEAST, 0, out=guided)
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
    for block in row_blocks(rows):
        made[block] = _truncated_rows(rows[block], np.float32(rate))
    return made.reshape(log_probabilities.shape)


def _truncated_rows(rows: np.ndarray, rate: np.float32) -> np.ndarray:
    """Keeps what is at least as likely as the last class kept: sorting the values alone is faster than their order.

    np.partition would do for the likeliest, but takes ten times as long where most classes are at `LEAST`.
    """
    last, kept = _last_kept(np.sort(rows, axis=-1), rate, max(1, rows.shape[-1] // LOOKED_AT))
    keep = rows >= last
    made = np.where(keep, rows, LEAST)
    tied = np.flatnonzero((np.count_nonzero(keep, axis=-1, keepdims=True) > kept) & (last > LEAST))
    if len(tied):
        equal = rows[tied] == last[tied]
        room = kept[tied] - np.count_nonzero(rows[tied] > last[tied], axis=-1, keepdims=True)
        made[tied] = np.where(equal & (np.cumsum(equal, axis=-1) > room), LEAST, made[tied])
    return made


def _last_kept(ascending: np.ndarray, rate: np.float32, several: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each sorted row the least value kept and how many are, [n, 1]: from its `several` likeliest classes, or from
    all where those have less than `rate` together."""
    classes = ascending.shape[-1]
    sums = _exact_exp(ascending[:, classes - several :])[:, ::-1].astype(np.float64)
    below = np.cumsum(sums, axis=-1, out=sums).astype(np.float32) < rate
    kept = 1 + np.count_nonzero(below[:, :-1], axis=-1, keepdims=True)
    last = np.take_along_axis(ascending, classes - kept, axis=-1)
    more = np.flatnonzero(below[:, -1]) if several < classes else ()
    if len(more):
        last[more], kept[more] = _last_kept(ascending[more], rate, classes)
    return last, kept


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
    for block in row_blocks(rows):
        noise = gumbel(draws[block])
        noise += rows[block]
        tokens[block] = noise.argmax(axis=-1)
    return tokens.reshape(log_probabilities.shape[:-1])


def log_one_hot(tokens: np.ndarray, classes: int) -> np.ndarray:
    """float32 [..., classes]: 0 at the token, `LOG_TINY` elsewhere."""
    values = np.full((*tokens.shape, classes), LOG_TINY, np.float32)
    np.put_along_axis(values, tokens[..., None], np.float32(0), axis=-1)
    return values
