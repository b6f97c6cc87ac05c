"""The op from torch's own fused attention, which is what a torch program without our kernel would best run."""

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
    """The same as `reference.injected_attention`, of any dtype, as two calls of scaled_dot_product_attention."""
    q, k, v, kl, vl = (
        tensor.unflatten(-1, (num_heads, -1)).transpose(1, 2) for tensor in (query, key, value, local_key, local_value)
    )
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
