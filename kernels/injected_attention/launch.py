"""The Triton kernels on torch tensors: what the tests and the benchmark call."""

import torch
import triton
from torch import Tensor

from ..errors import KernelError
from .op import MAX_HEAD_WIDTH, kernel_tile, padded_width
from .triton_kernel import global_pass, local_pass


def injected_attention_triton(
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
    """The same as `reference.injected_attention`, for contiguous float16 or bfloat16 tensors on a GPU.

    token_index is int64 or int32, and strength float32. The local part of a sample whose strength is 0 is not computed,
    so infinities in it do no harm. A token_index of T or more gives NaN. Raises KernelError for anything else.
    """
    _check(query, key, value, local_key, local_value, token_index, strength, num_heads)
    (samples, queries, channels), tokens, local_tokens = query.shape, key.shape[1], local_key.shape[1]
    head_width = channels // num_heads
    scale = head_width**-0.5 if scale is None else scale
    output = torch.empty_like(query)
    columns = torch.empty(samples, num_heads, queries, dtype=torch.float32, device=query.device)
    peaks = torch.zeros(samples, dtype=torch.float32, device=query.device)
    passes = (
        (global_pass, (query, key, value, token_index), tokens, (output, columns, peaks)),
        (
            local_pass,
            (query, local_key, local_value, token_index, strength, None, columns, peaks),
            local_tokens,
            (output,),
        ),
    )
    for kernel, inputs, length, outputs in passes:
        cut = kernel_tile(kernel.__name__, head_width)
        kernel[triton.cdiv(queries, cut.rows), samples * num_heads](
            *(*inputs, num_heads, queries, length, scale, *outputs),
            HEAD_WIDTH=head_width,
            WIDTH=padded_width(head_width),
            ROWS=cut.rows,
            COLUMNS=cut.columns,
            num_warps=cut.warps,
            num_stages=cut.stages,
            enable_fp_fusion=True,
        )
    return output


def _check(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    local_key: Tensor,
    local_value: Tensor,
    token_index: Tensor,
    strength: Tensor,
    num_heads: int,
) -> None:
    samples, queries, channels = query.shape
    halves, whole = (torch.float16, torch.bfloat16), (torch.int64, torch.int32)
    wanted = {
        "query": (query, (samples, queries, channels), halves),
        "key": (key, (samples, key.shape[1], channels), (query.dtype,)),
        "value": (value, (samples, key.shape[1], channels), (query.dtype,)),
        "local_key": (local_key, (samples, local_key.shape[1], channels), (query.dtype,)),
        "local_value": (local_value, (samples, local_key.shape[1], channels), (query.dtype,)),
        "token_index": (token_index, (samples,), whole),
        "strength": (strength, (samples,), (torch.float32,)),
    }
    problems = [
        f"{name}: expected a contiguous {list(shape)} of {' or '.join(map(str, dtypes))} on {query.device}, "
        f"got {list(tensor.shape)} of {tensor.dtype} with strides {tensor.stride()} on {tensor.device}"
        for name, (tensor, shape, dtypes) in wanted.items()
        if tensor.shape != shape
        or tensor.dtype not in dtypes
        or tensor.device != query.device
        or not tensor.is_contiguous()
        or not tensor.numel()
    ]
    if channels % num_heads or channels // num_heads > MAX_HEAD_WIDTH:
        problems.append(f"expected {num_heads} heads of at most {MAX_HEAD_WIDTH} channels each, got {channels} in all")
    if problems:
        raise KernelError(*problems)
