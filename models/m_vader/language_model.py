"""GPT-J with MAGMA's adapters (arXiv 2112.05253), which reads a sequence of embedded texts and pictures.

Keys are those of transformers' GPT-J, with a block's `mlp` as MAGMA releases it: `mlp.0` is the block's own, and
`mlp.1.adapter` what MAGMA trained behind it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BASE = 10000.0
"""Of the rotation's wavelengths."""


@dataclass(frozen=True, slots=True)
class LanguageModelSettings:
    """Sizes of one model. `positions` are the longest sequence, `rotary` the numbers of each head that are turned by
    their position, `inner` the width inside a block's MLP and `adapter` that inside its adapter; `end` is the token
    that ends a text."""

    vocabulary: int
    positions: int
    width: int
    layers: int
    heads: int
    rotary: int
    inner: int
    adapter: int
    epsilon: float
    end: int


class LanguageModel(nn.Module):
    """`forward(embeds [B, L, D])` returns the states behind the last LayerNorm [B, L, D], each of which has read those
    before it. L is at most `settings.positions`; there is no padding.

    M-VADER's context is assumed to be these states, one for each position: its authors published no code.
    """

    sines: Tensor
    cosines: Tensor

    def __init__(self, settings: LanguageModelSettings):
        super().__init__()
        self.settings = settings
        self.wte = nn.Embedding(settings.vocabulary, settings.width)
        self.h = nn.ModuleList(_Block(settings) for _ in range(settings.layers))
        self.ln_f = nn.LayerNorm(settings.width, eps=settings.epsilon)
        for name, table in zip(("sines", "cosines"), _rotations(settings.positions, settings.rotary), strict=True):
            self.register_buffer(name, table, persistent=False)

    def forward(self, embeds: Tensor) -> Tensor:
        # By index and not by a slice, which would bind a traced length to the table's.
        places = torch.arange(embeds.shape[1], device=embeds.device)
        turn = self.sines[places, None], self.cosines[places, None]
        states = embeds
        for block in self.h:
            states = block(states, turn)
        normed: Tensor = self.ln_f(states)
        return normed


class _Block(nn.Module):
    """Attention and MLP read the same normalised states, and both are added to them."""

    def __init__(self, settings: LanguageModelSettings):
        super().__init__()
        self.ln_1 = nn.LayerNorm(settings.width, eps=settings.epsilon)
        self.attn = _Attention(settings)
        self.mlp = nn.Sequential(_Mlp(settings.width, settings.inner), _Adapter(settings.width, settings.adapter))

    def forward(self, states: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        normed = self.ln_1(states)
        return self.attn(normed, turn) + self.mlp(normed) + states


class _Attention(nn.Module):
    """Each position attends to itself and those before it."""

    def __init__(self, settings: LanguageModelSettings):
        super().__init__()
        self.heads, width = settings.heads, settings.width
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width, bias=False) for _ in range(4))

    def forward(self, states: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        query, key, value = (
            linear(states).unflatten(-1, (self.heads, -1)) for linear in (self.q_proj, self.k_proj, self.v_proj)
        )
        query, key = rotated(query, *turn), rotated(key, *turn)
        q, k, v = (rows.transpose(1, 2) for rows in (query, key, value))
        heads = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        attended: Tensor = self.out_proj(heads.transpose(1, 2).flatten(2))
        return attended


def rotated(rows: Tensor, sines: Tensor, cosines: Tensor) -> Tensor:
    """Heads [B, L, H, W], the first R numbers of which are turned by their position, in pairs of neighbours (2j, 2j+1);
    sines and cosines [L, 1, R] have each pair's twice."""
    width = sines.shape[-1]
    turned = rows[..., :width]
    crossed = torch.stack((-turned[..., 1::2], turned[..., ::2]), dim=-1).flatten(-2)
    turned = turned * cosines + crossed * sines
    return turned if width == rows.shape[-1] else torch.cat([turned, rows[..., width:]], dim=-1)


def _rotations(positions: int, width: int) -> tuple[Tensor, Tensor]:
    """Sines and cosines of every position's angles, [positions, width] each."""
    rates = 1.0 / (BASE ** (torch.arange(0, width, 2, dtype=torch.int64) / width))
    angles = (torch.arange(positions, dtype=torch.int64).float()[:, None] * rates).repeat_interleave(2, dim=1)
    return angles.sin(), angles.cos()


class _Mlp(nn.Module):
    def __init__(self, width: int, inner: int):
        super().__init__()
        self.fc_in, self.fc_out = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, states: Tensor) -> Tensor:
        out: Tensor = self.fc_out(F.gelu(self.fc_in(states), approximate="tanh"))
        return out


class _Adapter(nn.Module):
    """MAGMA's adapter: a bottleneck beside what it is handed."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.adapter = nn.Sequential(nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, width))

    def forward(self, states: Tensor) -> Tensor:
        out: Tensor = self.adapter(states) + states
        return out
