"""What the elements of a mixed prompt weigh, as the denoiser reads it: numbers for each token of the context.

Which form M-VADER has is not published; all three are assumptions. The side that is steered away from has no weights.
"""

from typing import Literal, get_args

import numpy as np

Weighting = Literal["additive", "multiplicative", "embedding"]
WEIGHTINGS: tuple[Weighting, ...] = get_args(Weighting)
KEY_BIAS, KEY_STRETCH = "key_bias", "key_stretch"
"""Inputs of a denoiser, float32 [B, T] each: what is added to the scaled scores of a token in every cross-attention,
and by what share of their distance from the least score they grow."""
UNREAD = -4096.0
"""The bias of a token that is not read: padding, and the elements of weight 0. It is far below every score, so that the
token's probability is 0, and float16 holds it with room to spare."""


def key_bias(weights: np.ndarray, weighting: Weighting) -> np.ndarray:
    """float32 [T] of the weights of T tokens: ln w where they are additive, so that w = 0 removes a token."""
    if weighting != "additive":
        return np.zeros_like(weights)
    return np.log(weights, out=np.full_like(weights, UNREAD), where=weights > 0)


def key_stretch(weights: np.ndarray, weighting: Weighting) -> np.ndarray:
    """float32 [T] of the weights of T tokens: w - 1 where they stretch scores, so that w = 0 makes a token's the least
    one, and does not remove it."""
    return weights - 1 if weighting == "multiplicative" else np.zeros_like(weights)


def weighted_context(context: np.ndarray, weights: np.ndarray, weighting: Weighting) -> np.ndarray:
    """A context [1, T, D], each token's vector times its weight where they are of the embedding."""
    return context * weights[:, None] if weighting == "embedding" else context
