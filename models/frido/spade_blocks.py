"""The blocks of Frido's UNet: residual blocks and spatial transformers whose norms read the coarser levels.

Keys are those of latent diffusion's checkpoints. Source: Frido (arXiv 2208.13753), and SPADE (arXiv 1903.07291) for the
norms that are modulated by a map.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GROUPS = 32
"""Of every norm: widths are multiples of it."""
HIDDEN = 128
"""Channels between a map and the scales and shifts that are made of it."""
BLOCK_EPSILON, TRANSFORMER_EPSILON = 1e-5, 1e-6
"""Those of the norms inside residual blocks, and before the transformers."""


Pair = tuple[Tensor, Tensor]
"""What no step changes: keys and values of a cross-attention, [B, M, C] each; or the scale and the shift of a norm, [B,
C, h, w] each."""


class Spade(nn.Module):
    """A group norm with learned scale and shift, which maps of scales and shifts modulate where there are any: x [B, C,
    h, w] -> the same. It stands where the latents were halved `halvings` times."""

    def __init__(self, channels: int, guide_channels: int, epsilon: float, halvings: int):
        super().__init__()
        self.halvings = halvings
        self.param_free_norm = nn.GroupNorm(GROUPS, channels, eps=epsilon)
        self.mlp_shared = nn.Sequential(nn.Conv2d(guide_channels, HIDDEN, 3, padding=1), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(HIDDEN, channels, 3, padding=1)
        self.mlp_beta = nn.Conv2d(HIDDEN, channels, 3, padding=1)

    def forward(self, x: Tensor, maps: Pair | None) -> Tensor:
        normed = self.param_free_norm(x)
        return normed if maps is None else normed * maps[0] + maps[1]

    def maps(self, guide: Tensor) -> Pair:
        """The maps that a guide [B, guide_channels, h, w] of the norm's own size makes, [B, C, h, w] each."""
        hidden = self.mlp_shared(guide)
        return 1 + self.mlp_gamma(hidden), self.mlp_beta(hidden)


Maps = Iterator[Pair | None]
"""Those of the norms to come, in the order in which they are called."""


class SpadeBlock(nn.Module):
    """A residual block: x [B, C, h, w], time [B, T] -> [B, C', h, w]. The time enters before the second norm."""

    def __init__(self, channels: int, channels_out: int, width: int, halvings: int):
        super().__init__()
        self.in_layers = nn.ModuleList(
            [
                Spade(channels, width, BLOCK_EPSILON, halvings),
                nn.SiLU(),
                nn.Conv2d(channels, channels_out, 3, padding=1),
            ]
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(4 * width, channels_out))
        self.out_layers = nn.ModuleList(
            [
                Spade(channels_out, width, BLOCK_EPSILON, halvings),
                nn.SiLU(),
                nn.Dropout(0.0),
                nn.Conv2d(channels_out, channels_out, 3, padding=1),
            ]
        )
        self.skip_connection = nn.Identity() if channels == channels_out else nn.Conv2d(channels, channels_out, 1)

    def forward(self, x: Tensor, time: Tensor, maps: Maps) -> Tensor:
        h = self.in_layers[2](F.silu(self.in_layers[0](x, next(maps))))
        h = h + self.emb_layers(time)[..., None, None]
        h = self.out_layers[3](F.silu(self.out_layers[0](h, next(maps))))
        return self.skip_connection(x) + h


class WideAttention(nn.Module):
    """Attention of one head as wide as the layer: x [B, N, C], keys and values [B, M, C] -> [B, N, C]."""

    def __init__(self, width: int, context_width: int):
        super().__init__()
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k, self.to_v = (nn.Linear(context_width, width, bias=False) for _ in range(2))
        self.to_out = nn.Sequential(nn.Linear(width, width), nn.Dropout(0.0))

    def forward(self, x: Tensor, pair: Pair) -> Tensor:
        # The axis of its one head is there for the tracer, which knows no attention without.
        query, key, value = (part[:, None] for part in (self.to_q(x), *pair))
        return self.to_out(F.scaled_dot_product_attention(query, key, value)[:, 0])

    def pair(self, context: Tensor) -> Pair:
        """The keys and the values of a context [B, M, D]."""
        return self.to_k(context), self.to_v(context)


class _GatedLinear(nn.Module):
    """A linear layer, half of which gates the other by an exact GELU."""

    def __init__(self, width: int, width_out: int):
        super().__init__()
        self.proj = nn.Linear(width, 2 * width_out)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class _FeedForward(nn.Module):
    """The gated layer, four times as wide inside, as keys of latent diffusion name it."""

    def __init__(self, width: int):
        super().__init__()
        self.net = nn.Sequential(_GatedLinear(width, 4 * width), nn.Dropout(0.0), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class _Layer(nn.Module):
    """Self-attention, cross-attention and feed-forward, each behind its own norm."""

    def __init__(self, width: int, context_width: int):
        super().__init__()
        self.attn1, self.attn2 = WideAttention(width, width), WideAttention(width, context_width)
        self.ff = _FeedForward(width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: Tensor, pair: Pair) -> Tensor:
        normed = self.norm1(x)
        x = x + self.attn1(normed, self.attn1.pair(normed))
        x = x + self.attn2(self.norm2(x), pair)
        return x + self.ff(self.norm3(x))


class SpadeTransformer(nn.Module):
    """A spatial transformer: x [B, C, h, w] -> the same, its input added. Each layer reads a pair of its own."""

    def __init__(self, channels: int, context_width: int, depth: int, width: int, halvings: int):
        super().__init__()
        self.norm = Spade(channels, width, TRANSFORMER_EPSILON, halvings)
        self.proj_in, self.proj_out = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList(_Layer(channels, context_width) for _ in range(depth))

    def forward(self, x: Tensor, pairs: Iterator[Pair], maps: Maps) -> Tensor:
        h = self.proj_in(self.norm(x, next(maps)))
        rows = h.flatten(2).mT
        for layer in self.transformer_blocks:
            rows = layer(rows, next(pairs))
        return x + self.proj_out(rows.mT.unflatten(2, x.shape[2:]))


class Shrink(nn.Module):
    """[B, C, h, w] -> [B, C, h / 2, w / 2] by a convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


def halved_guides(guide: Tensor, levels: int) -> list[Tensor]:
    """A map at each of the UNet's sizes, the largest first: every second value, as a nearest resize has them."""
    found = [guide]
    for _ in range(levels - 1):
        found.append(found[-1][..., ::2, ::2])
    return found


def sinusoid(timestep: Tensor, width: int) -> Tensor:
    """Timesteps [B] -> [B, width], cosines before sines of frequencies from 1 down to nearly 1 / 10000."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * (-torch.log(torch.tensor(10000.0)) / half))
    angles = timestep[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)
