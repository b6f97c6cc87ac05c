"""The layers of transformers over tokens: norms that a table steers, attention to what was projected, and MLPs."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SigmoidGelu(nn.Module):
    """x sigmoid(1.702 x), which VQ-Diffusion's code calls GELU2; it differs from the erf form by up to 0.02."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class AdaptiveNorm(nn.Module):
    """`forward(x [B, N, D], index int64 [B])`: LayerNorm of which `index` chooses a scale and a shift for each row.

    They are a linear layer's of silu of the embedding's row. With `with_mean`, one index more than the embedding has
    rows means the mean of them all. Source: VQ-Diffusion (arXiv 2111.14822), whose code calls it AdaLayerNorm and has
    that mean for classes alone.
    """

    def __init__(self, rows: int, width: int, with_mean: bool = False):
        super().__init__()
        self.emb = nn.Embedding(rows, width)
        self.linear = nn.Linear(width, 2 * width)
        self.with_mean = with_mean

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        return _steered(x, self._steering(F.embedding(index, self._rows())))

    def tabled(self) -> "TabledNorm":
        """The same norm as one table."""
        return TabledNorm(self._steering(self._rows()))

    def _rows(self) -> Tensor:
        rows = self.emb.weight
        return torch.cat([rows, rows.mean(dim=0, keepdim=True)]) if self.with_mean else rows

    def _steering(self, embedded: Tensor) -> Tensor:
        """[n, 2 D]: 1 + scale, then shift."""
        scale, shift = self.linear(F.silu(embedded)).chunk(2, dim=-1)
        return torch.cat([1 + scale, shift], dim=-1)


class TabledNorm(nn.Module):
    """An AdaptiveNorm with its embedding and linear layer multiplied out, to one row [2 D] of a table for each index.

    Of a timestep's norm at width D this leaves 2 T D numbers of (T + 2 D + 2) D, and a lookup of a matrix product in
    each step.
    """

    def __init__(self, table: Tensor):
        super().__init__()
        self.table = nn.Parameter(table.detach().contiguous(), requires_grad=False)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        return _steered(x, F.embedding(index, self.table))


@torch.no_grad()
def table_norms(module: nn.Module) -> None:
    """Puts tables in the place of all norms below a module that a number steers."""
    for below in list(module.modules()):
        for name, norm in list(below.named_children()):
            if isinstance(norm, AdaptiveNorm):
                setattr(below, name, norm.tabled())


def _steered(x: Tensor, steering: Tensor) -> Tensor:
    factor, shift = steering.unsqueeze(1).chunk(2, dim=-1)
    return F.layer_norm(x, x.shape[-1:]) * factor + shift


class TokenAttention(nn.Module):
    """`forward(x [B, N, D], key [B, T, D], value [B, T, D])`: every token looks at all of T, without a mask.

    `project` makes keys and values of a context of `context_width`; scores are scaled by the root of a head's width.
    """

    def __init__(self, width: int, context_width: int, heads: int):
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key, self.value = nn.Linear(context_width, width), nn.Linear(context_width, width)
        self.proj = nn.Linear(width, width)
        self.heads = heads

    def project(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values, [B, T, D] each, of a context [B, T, context_width]."""
        return self.key(context), self.value(context)

    def forward(self, x: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (self.query(x), key, value))
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class ConvolutionalMlp(nn.Module):
    """`forward(x [B, N, D])`: two 3 x 3 convolutions over the tokens, which are the rows of a square."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.conv1 = nn.Conv2d(width, inner, 3, padding=1)
        self.act = SigmoidGelu()
        self.conv2 = nn.Conv2d(inner, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        side = math.isqrt(x.shape[1])
        square = x.transpose(1, 2).unflatten(2, (side, side))
        return self.conv2(self.act(self.conv1(square))).flatten(2).transpose(1, 2)
