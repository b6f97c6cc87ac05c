"""An op's Triton kernels on torch tensors: what the tests and the benchmark call."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import triton
from torch import Tensor

from ..errors import KernelError
from .kernel_op import MAX_HEAD_WIDTH, KernelOp, padded_width

# A launch on torch tensors takes shorter whole numbers as well.
_TYPES = {"i64": (torch.int64, torch.int32), "fp32": (torch.float32,)}


def launch_kernels(
    op: KernelOp,
    kernels: Sequence[Any],
    inputs: Mapping[str, Tensor],
    num_heads: int,
    scale: float | None,
) -> Tensor:
    """The output of an op's kernels, given in the order of `op.passes`, on contiguous tensors of one GPU.

    Arguments that are no input, length or scratch of the op are None. Raises KernelError for inputs that the op does
    not take.
    """
    sizes = _checked_sizes(op, inputs, num_heads)
    query = inputs[op.inputs[0]]
    head_width = sizes["C"] // num_heads
    output = torch.empty_like(query)
    scratch = {
        name: (torch.zeros if name in op.cleared else torch.empty)(count, dtype=torch.float32, device=query.device)
        for name, count in op.scratch(sizes["B"], num_heads, sizes["N"]).items()
    }
    lengths = {name: sizes[letter] for name, letter in op.lengths.items()}
    scale = head_width**-0.5 if scale is None else scale
    given: dict[str, Any] = {**inputs, **lengths, **scratch, "heads": num_heads, "scale": scale, "output": output}
    for kernel in kernels:
        cut = op.tile(kernel.__name__, str(query.dtype).removeprefix("torch."), head_width)
        sized = {"HEAD_WIDTH": head_width, "WIDTH": padded_width(head_width), "ROWS": cut.rows, "COLUMNS": cut.columns}
        arguments = {name: given.get(name) for name in kernel.arg_names} | sized
        grid = (triton.cdiv(sizes["N"], cut.rows), sizes["B"] * num_heads)
        kernel[grid](**arguments, num_warps=cut.warps, num_stages=cut.stages, enable_fp_fusion=True)
    return output


def _checked_sizes(op: KernelOp, inputs: Mapping[str, Tensor], num_heads: int) -> dict[str, int]:
    """The size of every letter in the op's shapes. Raises KernelError with every problem."""
    query = inputs[op.inputs[0]]
    ranked = {name: tensor for name, tensor in inputs.items() if tensor.ndim == len(op.shapes[name])}
    sizes: dict[str, int] = {}
    for name, tensor in ranked.items():
        for letter, size in zip(op.shapes[name], tensor.shape, strict=True):
            sizes.setdefault(letter, size)
    problems = []
    for name, tensor in inputs.items():
        dtypes = _input_types(op, name, query)
        shape = [sizes.get(letter) for letter in op.shapes[name]]
        right = list(tensor.shape) == shape and tensor.dtype in dtypes and tensor.device == query.device
        if not right or not tensor.is_contiguous() or not tensor.numel():
            problems.append(
                f"{name}: expected a contiguous {shape} of {' or '.join(map(str, dtypes))} on {query.device}, "
                f"got {list(tensor.shape)} of {tensor.dtype} with strides {tensor.stride()} on {tensor.device}"
            )
    channels = sizes.get("C", 0)
    if channels % num_heads or channels // num_heads > MAX_HEAD_WIDTH:
        problems.append(f"expected {num_heads} heads of at most {MAX_HEAD_WIDTH} channels each, got {channels} in all")
    if problems:
        raise KernelError(*problems)
    return sizes


def _input_types(op: KernelOp, name: str, query: Tensor) -> tuple[torch.dtype, ...]:
    if name in op.types:
        return _TYPES[op.types[name]]
    taken = tuple(getattr(torch, dtype) for dtype in op.dtypes)
    return taken if name == op.inputs[0] else (query.dtype,)
