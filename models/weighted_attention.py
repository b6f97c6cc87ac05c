"""Cross-attention whose keys count more or less: what parts of a context weigh, and padding that counts nothing.

M-VADER (arXiv 2212.02936) weighs the elements of its prompt; how, its authors published nowhere. The forms here are
assumptions: a bias of ln w, or the stretch of the scores by which AtMan (arXiv 2301.08110) manipulates attention.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .context_attention import split_heads


@dataclass(frozen=True, slots=True)
class KeyWeights:
    """`bias` float32 [B, T] is added to the scaled scores of a key: ln w of a weight, or a large negative number for a
    key that is not read. `stretch` float32 [B, T] is w - 1 of a weight by which scores are stretched, 0 for none."""

    bias: Tensor
    stretch: Tensor


def weighted_attention(weights: KeyWeights, query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """query [B, N, C], key and value [B, T, C] to [B, N, C]: softmax(s + (s - min s) stretch + bias) v.

    The minimum is a query's and a head's, over the keys that are read. (s - min s) w + min s is the same to a softmax
    as (s - min s) w; written as a change of s it leaves s alone, to the bit, where the stretch is 0.
    """
    q, k, v = (split_heads(rows, heads) for rows in (query, key, value))
    bias, stretch = weights.bias[:, None, None], weights.stretch[:, None, None]
    scores = q * q.shape[-1] ** -0.5 @ k.mT
    # A key that is not read has a bias so far below 0 that without it its score is never the least.
    least = (scores - bias).amin(-1, keepdim=True)
    raised = scores + (scores - least) * stretch + bias
    return (torch.softmax(raised, -1) @ v).transpose(1, 2).flatten(2)
