"""What discrete diffusion does with log-probabilities: softmax, guidance, truncation and draws.

Classes are the last axis everywhere. Source: VQ-Diffusion (arXiv 2111.14822) and Improved VQ-Diffusion (arXiv
2205.16007), in the arithmetic of their code: float64 where it has float64, float32 elsewhere.
"""

import numpy as np

LEAST = np.float32(-70.0)
"""The log-probability that stands for none."""
TINY = np.float32(1e-30)
LOG_TINY = np.log(TINY)
"""What a one-hot array has beside its token."""


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities of float32 logits [..., K], computed in float64, float32, at least `LEAST`."""
    values = logits.astype(np.float64)
    values -= values.max(axis=-1, keepdims=True)
    values -= np.log(np.exp(values).sum(axis=-1, keepdims=True))
    return np.clip(values.astype(np.float32), LEAST, 0)


def guided_log_probabilities(unconditional: np.ndarray, conditional: np.ndarray, scale: float) -> np.ndarray:
    """Guidance of float32 log-probabilities [..., K]: u + scale (c - u), made probabilities again."""
    guided = unconditional + np.float32(scale) * (conditional - unconditional)
    guided -= log_sum_exp(guided)
    return np.clip(guided, LEAST, 0, out=guided)


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

    The likeliest stays in any case. Sums are of float64, rounded to float32 before they are compared.
    """
    order = np.argsort(-log_probabilities, axis=-1, kind="stable")
    ordered = np.take_along_axis(log_probabilities, order, axis=-1)
    sums = np.cumsum(np.exp(ordered), axis=-1, dtype=np.float64).astype(np.float32)
    kept = np.ones(ordered.shape, bool)
    kept[..., 1:] = sums[..., :-1] < np.float32(rate)
    keep = np.empty_like(kept)
    np.put_along_axis(keep, order, kept, axis=-1)
    return np.where(keep, log_probabilities, LEAST)


def gumbel(uniform: np.ndarray) -> np.ndarray:
    """Gumbel noise of float32 uniform draws."""
    return -np.log(-np.log(uniform + TINY) + TINY)


def draw(log_probabilities: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """One token, int64 [...], of each row of log-probabilities [..., K], by as many uniform draws."""
    return (log_probabilities + gumbel(uniform)).argmax(axis=-1)


def log_one_hot(tokens: np.ndarray, classes: int) -> np.ndarray:
    """float32 [..., classes]: 0 at the token, `LOG_TINY` elsewhere."""
    values = np.full((*tokens.shape, classes), LOG_TINY, np.float32)
    np.put_along_axis(values, tokens[..., None], np.float32(0), axis=-1)
    return values
