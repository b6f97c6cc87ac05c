"""The op in torch: the plain formula, which every faster form is compared with, and torch's own fused attention.

`out = softmax(s q kᵀ) v + λ m ⊙ softmax(s q klᵀ) vl`. Source: ELITE (arXiv 2302.13848), whose authors normalise over
the whole call; here each sample has its own maximum, which is the same for the single picture they draw. With `m = 1`
it is IP-Adapter's decoupled attention (arXiv 2308.06721).
"""

import torch
from torch import Tensor
from torch.nn import functional

# Appended to every head, as in the ONNX function: the first column of the values finds the token's probabilities.
_EXTRA = 8


def injected_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    local_key: Tensor,
    local_value: Tensor,
    token_index: Tensor,
    strength: Tensor,
    num_heads: int,
    scale: float | None = None,
) -> Tensor:
    """Attention over a context with a second, weighted attention added to it.

    query [B, N, C], key and value [B, T, C], local_key and local_value [B, L, C]; heads are contiguous slices of C.
    token_index int64 [B] names the context token whose probabilities, divided by their maximum over the sample's
    heads and queries, weight the local part; below 0 the weight is 1. strength float [B] is λ. scale is
    1 / sqrt(C / num_heads) unless given. Returns [B, N, C].
    """
    q, k, v, kl, vl = (_heads(t, num_heads) for t in (query, key, value, local_key, local_value))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    probabilities = (q @ k.mT * scale).softmax(-1)
    mask = column_mask(probabilities, token_index)
    local = (q @ kl.mT * scale).softmax(-1) @ vl
    factor = strength.to(mask.dtype).view(-1, 1, 1, 1)
    # A token that no query sees at all would make the mask 0 / 0; at strength 0 nothing of it may come through.
    weight = torch.where(factor == 0, factor, factor * mask)
    out = probabilities @ v + weight * local
    return out.transpose(1, 2).flatten(2)


def injected_attention_sdpa(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    local_key: Tensor,
    local_value: Tensor,
    token_index: Tensor,
    strength: Tensor,
    num_heads: int,
    scale: float | None = None,
) -> Tensor:
    """The same as `injected_attention`, as two calls of torch's fused scaled_dot_product_attention.

    Shapes, ranges and result are those of `injected_attention`, in any floating dtype. It is what a torch program
    without our kernel would best run.
    """
    q, k, v, kl, vl = (_heads(tensor, num_heads) for tensor in (query, key, value, local_key, local_value))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    positions = torch.arange(key.shape[1], device=key.device)
    one_hot = (positions == token_index[:, None]).to(v.dtype)[:, None, :, None]
    columns = functional.pad(one_hot, (0, _EXTRA - 1)).expand(*v.shape[:3], _EXTRA)
    wide_q, wide_k = (functional.pad(tensor, (0, _EXTRA)) for tensor in (q, k))
    wide = functional.scaled_dot_product_attention(wide_q, wide_k, torch.cat([v, columns], -1), scale=scale)
    attended, column = wide[..., :-_EXTRA], wide[..., -_EXTRA : 1 - _EXTRA]
    mask = torch.where(token_index.view(-1, 1, 1, 1) < 0, 1, column / column.amax((1, 2), keepdim=True))
    local = functional.scaled_dot_product_attention(q, kl, vl, scale=scale)
    factor = strength.view(-1, 1, 1, 1)
    weight = torch.where(factor == 0, factor, factor * mask).to(local.dtype)
    return (attended + weight * local).transpose(1, 2).flatten(2)


def column_mask(probabilities: Tensor, token_index: Tensor) -> Tensor:
    """[B, heads, N, T] to [B, heads, N, 1]: one token's probabilities over their maximum; 1 for an index below 0."""
    index = token_index.clamp(min=0).view(-1, 1, 1, 1).expand(*probabilities.shape[:-1], 1)
    column = probabilities.gather(-1, index)
    mask = column / column.amax((1, 2, 3), keepdim=True)
    return torch.where(token_index.view(-1, 1, 1, 1) < 0, torch.ones_like(mask), mask)


def _heads(tokens: Tensor, num_heads: int) -> Tensor:
    """[B, N, C] to [B, heads, N, C / heads]."""
    return tokens.unflatten(-1, (num_heads, -1)).transpose(1, 2)
