"""The op in torch: the plain formula, which every faster form is compared with.

`out = softmax(s (S + b (g_max max S + g_deviation std S)) + b_key) v` with `S = q kᵀ`. With a map of words as `b` it is
paint-with-words: eDiff-I (arXiv 2211.01324) raises the scores of a painted word by a share of their maximum, the public
Stable Diffusion port (cloneofsimo/paint-with-words-sd) by one of their deviation, too. `b_key` is what a mask or a
weight of a context's tokens adds.
"""

import torch
from torch import Tensor
from torch.nn import functional


def biased_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor,
    gain_max: Tensor,
    gain_deviation: Tensor,
    key_bias: Tensor,
    num_heads: int,
    scale: float | None = None,
) -> Tensor:
    """Attention over a context whose scores rise where a map says so.

    query [B, N, C], key and value [B, T, C]; heads are contiguous slices of C. bias float32 [B, N, T] is the map, the
    same for all heads. gain_max and gain_deviation float32 [B] are its factors of the largest score and of the scores'
    standard deviation (divisor one less than their number): statistics of one sample, over its heads, queries and
    tokens, padding among them, of the scores before the scale and before any bias. key_bias float32 [B, T] is added to
    the scaled scores. scale is 1 / sqrt(C / num_heads) unless given. Returns [B, N, C] in the type of `value`.
    """
    q, k, v = (tensor.unflatten(-1, (num_heads, -1)).transpose(1, 2) for tensor in (query, key, value))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    # A positive scale may go first: maximum and deviation are scaled with the scores, which then fit into float16.
    scores = (q * scale @ k.mT).float()
    rows = scores.flatten(1)
    rise = gain_max * rows.amax(1) + gain_deviation * rows.std(1)
    raised = scores + bias[:, None] * rise.view(-1, 1, 1, 1) + key_bias[:, None, None]
    out = torch.softmax(raised, -1).to(v.dtype) @ v
    return out.transpose(1, 2).flatten(2)


def biased_attention_sdpa(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor,
    gain_max: Tensor,
    gain_deviation: Tensor,
    key_bias: Tensor,
    num_heads: int,
    scale: float | None = None,
) -> Tensor:
    """The same as `biased_attention`, with torch's fused scaled_dot_product_attention behind the statistics.

    Shapes, ranges and result are those of `biased_attention`, in any floating dtype. It is what a torch program without
    our kernel would best run: the scores are written out once, for their maximum and deviation, and what they rise by
    is a mask of the attention.
    """
    q, k, v = (tensor.unflatten(-1, (num_heads, -1)).transpose(1, 2) for tensor in (query, key, value))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    rows = (q * scale @ k.mT).flatten(1)
    rise = gain_max * rows.amax(1).float() + gain_deviation * rows.std(1).float()
    mask = bias * rise.view(-1, 1, 1) + key_bias[:, None]
    # One mask for all heads, which the fused kernels read at steps of 8 numbers a row.
    aligned = functional.pad(mask.to(q.dtype), (0, -mask.shape[-1] % 8))[:, None, :, : mask.shape[-1]]
    out = functional.scaled_dot_product_attention(q, k, v, attn_mask=aligned, scale=scale)
    return out.transpose(1, 2).flatten(2)
