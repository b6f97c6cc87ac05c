"""A program: the kernel in Triton's interpreter, on the CPU.

A process of its own, with TRITON_INTERPRET=1, because Triton decides at its import whether it interprets. Each line
that it reads names a file with a list of dicts, the launcher's arguments; it puts the list of results in its place and
says so in a line.
"""

import sys
from typing import Any

import torch
import triton.language as tl
from triton.runtime.interpreter import InterpreterBuilder
from x2i.kernels.injected_attention.launch import injected_attention


def widen_bfloat16() -> None:
    """The interpreter keeps bfloat16 as the integers of its bits, and would multiply those: multiply in fp32."""
    dot = InterpreterBuilder.create_dot

    def widened(self: InterpreterBuilder, left: Any, right: Any, *rest: Any) -> Any:
        wide = [self.cast_impl(side, tl.float32) if side.dtype.scalar.is_bf16() else side for side in (left, right)]
        return dot(self, *wide, *rest)

    InterpreterBuilder.create_dot = widened


def main() -> None:
    widen_bfloat16()
    # Fills new memory with NaN, so that nothing unwritten goes unnoticed.
    torch.use_deterministic_algorithms(True)
    for line in sys.stdin:
        calls = torch.load(line.strip(), weights_only=True)
        torch.save([injected_attention(**call) for call in calls], line.strip())
        print("done", flush=True)


if __name__ == "__main__":
    main()
