"""The attention in numpy, by its formula and in the type it is given: what the kernel is compared with in float64."""

import numpy as np

Array = np.ndarray


def reference_attention(query: Array, key: Array, value: Array, heads: int, scale: float | None = None) -> Array:
    """softmax(scale query keyᵀ) value, head by head: query [B, N, C], key and value [B, M, C]; returns [B, N, C].

    Heads are contiguous slices of C; scale is 1 / sqrt(C / heads) unless given.
    """
    return _merged(_probabilities(query, key, heads, scale) @ _split(value, heads))


def reference_injected(
    query: Array,
    key: Array,
    value: Array,
    second_key: Array,
    second_value: Array,
    token: Array,
    strength: Array,
    heads: int,
    scale: float | None = None,
) -> Array:
    """Attention with a weighted second one added to it, as `injected_attention.reference` says; token and strength
    have a number a sample."""
    first = _probabilities(query, key, heads, scale)
    second = _probabilities(query, second_key, heads, scale) @ _split(second_value, heads)
    for sample, index in enumerate(token):
        column = first[sample, :, :, max(index, 0), None]
        mask = column / column.max() if index >= 0 else 1
        second[sample] *= strength[sample] * mask if strength[sample] else 0
    return _merged(first @ _split(value, heads) + second)


def _probabilities(query: Array, key: Array, heads: int, scale: float | None) -> Array:
    scale = (query.shape[-1] // heads) ** -0.5 if scale is None else scale
    logits = _split(query, heads) @ _split(key, heads).swapaxes(2, 3) * scale
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(shares / shares.sum(-1, keepdims=True))


def _split(tokens: Array, heads: int) -> Array:
    return tokens.reshape(*tokens.shape[:2], heads, -1).swapaxes(1, 2)


def _merged(heads: Array) -> Array:
    return heads.swapaxes(1, 2).reshape(heads.shape[0], heads.shape[2], -1)
