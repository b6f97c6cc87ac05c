"""The Triton kernels on torch tensors: what the tests and the benchmark call."""

from torch import Tensor

from ..gpu.launch import launch_kernels
from .op import BIASED, INPUTS
from .triton_kernel import raised_pass, statistics_pass


def biased_attention_triton(
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
    """The same as `reference.biased_attention`, for contiguous float16, bfloat16 or float32 tensors on a GPU.

    bias, gains and key_bias are float32, and scale is positive. Of a sample whose gains are both 0 neither statistics
    nor bias are read, so that it is the plain attention to the bit. Raises KernelError for anything else.
    """
    given = (query, key, value, bias, gain_max, gain_deviation, key_bias)
    inputs = dict(zip(INPUTS, given, strict=True))
    return launch_kernels(BIASED, (statistics_pass, raised_pass), inputs, num_heads, scale)
