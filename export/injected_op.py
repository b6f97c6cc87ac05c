"""The injected attention as a graph records it: one node while tracing, the fp32 reference otherwise."""

import torch
from torch import Tensor
from x2i.kernels.injected_attention.onnx_function import ATTRIBUTES, DOMAIN, NAME, VERSION
from x2i.kernels.injected_attention.reference import injected_attention


def injected_op(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    local_key: Tensor,
    local_value: Tensor,
    token_index: Tensor,
    strength: Tensor,
    num_heads: int,
) -> Tensor:
    """Same arguments and result as `injected_attention`."""
    inputs = (query, key, value, local_key, local_value, token_index, strength)
    if not torch.compiler.is_exporting():
        return injected_attention(*inputs, num_heads)
    scale = (query.shape[-1] // num_heads) ** -0.5
    return torch.onnx.ops.symbolic(
        f"{DOMAIN}::{NAME}",
        inputs,
        {"num_heads": num_heads, "scale": scale, **ATTRIBUTES},
        dtype=query.dtype,
        shape=query.shape,
        version=VERSION,
    )
