"""The Triton kernels on torch tensors: what the tests and the benchmark call."""

from torch import Tensor

from ..gpu.launch import launch_kernels
from .op import INJECTED, INPUTS
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
    given = (query, key, value, local_key, local_value, token_index, strength)
    inputs = dict(zip(INPUTS, given, strict=True))
    return launch_kernels(INJECTED, (global_pass, local_pass), inputs, num_heads, scale)
