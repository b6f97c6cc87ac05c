"""Inputs of the injected attention, and what the kernel is compared with."""

from dataclasses import dataclass

import torch
from torch import Tensor
from x2i.kernels.injected_attention.reference import injected_attention as reference

from tests.numerics import assert_as_close

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Case:
    """Sizes as in the op's description: N queries, T context and L local tokens; a sample per token and strength."""

    queries: int
    tokens: int
    local_tokens: int
    heads: int
    head_width: int
    token_index: tuple[int, ...] = (3,)
    strength: tuple[float, ...] = (0.7,)

    @property
    def id(self) -> str:
        sizes = f"N{self.queries}-T{self.tokens}-L{self.local_tokens}-{self.heads}x{self.head_width}"
        return f"{sizes}-token{','.join(map(str, self.token_index))}-strength{','.join(map(str, self.strength))}"

    def inputs(self, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, ...]:
        """The op's seven inputs; the scores vary enough for some rows to attend to one token alone."""
        generator = torch.Generator().manual_seed(seed)
        lengths = (self.queries, self.tokens, self.tokens, self.local_tokens, self.local_tokens)
        shapes = [(len(self.token_index), length, self.heads * self.head_width) for length in lengths]
        floats = [torch.randn(shape, generator=generator) * (2 if i < 2 else 1) for i, shape in enumerate(shapes)]
        return (*(tensor.to(dtype) for tensor in floats), torch.tensor(self.token_index), torch.tensor(self.strength))


CASES = (
    Case(100, 77, 257, 2, 40, (5, 0, -1), (0.6, 0.0, 1.3)),
    Case(33, 130, 4, 1, 80, (129, 64), (1.0, 0.5)),
    Case(20, 77, 17, 1, 160, (76, 2), (0.0, 2.0)),
    Case(65, 5, 65, 2, 64, (4, -1), (0.8, -0.3)),
    Case(17, 130, 1, 3, 12, (-1,), (0.6,)),
    Case(100, 1, 100, 3, 24, (0, 0), (1.0, 0.4)),
    Case(1, 77, 257, 2, 36, (31,), (1.0,)),
)


def assert_as_close_as_torch(actual: Tensor, inputs: tuple[Tensor, ...], heads: int) -> None:
    """At most twice as far from the fp32 reference as the same formula in the inputs' precision."""
    exact = reference(*(tensor.float() if tensor.is_floating_point() else tensor for tensor in inputs), heads)
    peer = reference(*inputs, heads)
    assert actual.dtype == peer.dtype == inputs[0].dtype
    assert_as_close(*(tensor.float().cpu().numpy() for tensor in (actual, peer, exact)))
