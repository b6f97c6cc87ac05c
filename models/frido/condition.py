"""Frido's encoder of a prompt's or a layout's tokens, trained with the UNet (its BERTEmbedder).

Keys are those of x-transformers, on which it stands. Source: latent diffusion (arXiv 2112.10752) and Frido (arXiv
2208.13753).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HEADS, HEAD_WIDTH = 8, 64
"""Of every layer, whatever the width of the encoder."""


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """Sizes: `classes` tokens are known, and at most `positions` of them are read."""

    width: int
    layers: int
    classes: int
    positions: int


class TokenEncoder(nn.Module):
    """Tokens int64 [B, T] -> states [B, T, width]. Every token reads every other: no padding is masked."""

    def __init__(self, settings: EncoderSettings):
        super().__init__()
        self.settings = settings
        self.transformer = _Transformer(settings)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.transformer(tokens)


class _Transformer(nn.Module):
    """Embeddings, layers and the last norm."""

    def __init__(self, settings: EncoderSettings):
        super().__init__()
        self.token_emb = nn.Embedding(settings.classes, settings.width)
        self.pos_emb = nn.ModuleDict({"emb": nn.Embedding(settings.positions, settings.width)})
        self.attn_layers = nn.ModuleDict({"layers": nn.ModuleList(_layers(settings))})
        self.norm = nn.LayerNorm(settings.width)

    def forward(self, tokens: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.token_emb(tokens) + self.pos_emb["emb"](positions)
        for pair in self.attn_layers["layers"].children():
            norm, block = pair.children()
            x = x + block(norm(x))
        return self.norm(x)


def _layers(settings: EncoderSettings) -> list[nn.ModuleList]:
    """An attention and a feed-forward for each layer, each with the norm before it."""
    kinds = [kind for _ in range(settings.layers) for kind in (_HeadedAttention, _Widened)]
    return [nn.ModuleList([nn.LayerNorm(settings.width), kind(settings.width)]) for kind in kinds]


class _HeadedAttention(nn.Module):
    """Self-attention of HEADS heads, without a mask: [B, T, D] -> [B, T, D]."""

    def __init__(self, width: int):
        super().__init__()
        inner = HEADS * HEAD_WIDTH
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, inner, bias=False) for _ in range(3))
        self.to_out = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            part(x).unflatten(2, (HEADS, HEAD_WIDTH)).transpose(1, 2) for part in (self.to_q, self.to_k, self.to_v)
        )
        return self.to_out(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class _Widened(nn.Module):
    """Feed-forward, four times as wide inside, with an exact GELU."""

    def __init__(self, width: int):
        super().__init__()
        widened = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU())
        self.net = nn.Sequential(widened, nn.Dropout(0.0), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)
