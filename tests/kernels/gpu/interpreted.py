"""A program: the kernels in Triton's interpreter, on the CPU.

A process of its own, with TRITON_INTERPRET=1, because Triton decides at its import whether it interprets. Each line
that it reads names a form of FORMS and a file with a list of dicts, the form's arguments. It puts
the list of results in the file's place and says so in a line.
"""

import sys
from collections.abc import Callable
from typing import Any

import torch
import triton.language as tl
from torch import Tensor
from triton.runtime.interpreter import InterpreterBuilder
from x2i.kernels.biased_attention.launch import biased_attention_triton
from x2i.kernels.gpu.kernel_op import padded_width
from x2i.kernels.injected_attention.launch import injected_attention_triton
from x2i.kernels.injected_attention.op import INJECTED
from x2i.kernels.injected_attention.triton_kernel import global_pass, local_pass


def widen_bfloat16() -> None:
    """The interpreter keeps bfloat16 as the integers of its bits, and would multiply those: multiply in fp32."""
    dot = InterpreterBuilder.create_dot

    def widened(self: InterpreterBuilder, left: Any, right: Any, *rest: Any) -> Any:
        wide = [self.cast_impl(side, tl.float32) if side.dtype.scalar.is_bf16() else side for side in (left, right)]
        return dot(self, *wide, *rest)

    InterpreterBuilder.create_dot = widened


def injected_steps(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    local_key: Tensor,
    local_value: Tensor,
    token_index: Tensor,
    strength: Tensor,
    num_heads: int,
) -> Tensor:
    """As TensorRT's quick plugins run the passes: the peaks found apart, and the second pass not in place."""
    samples, queries, channels = query.shape
    width = channels // num_heads

    def run(kernel, *inputs: Tensor, keys: int, outputs: tuple[Tensor | None, ...]) -> None:
        cut = INJECTED.tile(kernel.__name__, str(query.dtype).removeprefix("torch."), width)
        sizes = (width, padded_width(width), cut.rows, cut.columns)
        grid = (-(-queries // cut.rows), samples * num_heads)
        kernel[grid](*inputs, num_heads, queries, keys, width**-0.5, *outputs, *sizes, num_warps=cut.warps)

    attended, output = torch.empty_like(query), torch.empty_like(query)
    columns = torch.empty(samples, num_heads, queries, device=query.device)
    run(global_pass, query, key, value, token_index, keys=key.shape[1], outputs=(attended, columns, None))
    inputs = (query, local_key, local_value, token_index, strength, attended, columns, columns.amax((1, 2)))
    run(local_pass, *inputs, keys=local_key.shape[1], outputs=(output,))
    return output


FORMS: dict[str, Callable[..., Tensor]] = {
    "injected": injected_attention_triton,
    "injected_steps": injected_steps,
    "biased": biased_attention_triton,
}


def main() -> None:
    widen_bfloat16()
    # Fills new memory with NaN, so that nothing unwritten goes unnoticed.
    torch.use_deterministic_algorithms(True)
    for line in sys.stdin:
        form, file = line.rstrip("\n").split(" ", 1)
        torch.save([FORMS[form](**call) for call in torch.load(file, weights_only=True)], file)
        print("done", flush=True)


if __name__ == "__main__":
    main()
