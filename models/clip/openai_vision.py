"""CLIP's vision tower under OpenAI's own names, with what its last block gives of every patch."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HEAD_WIDTH = 64
"""Of every CLIP; a tower's heads are as many as its width holds."""


class OpenAiVision(nn.Module):
    """`forward(pixels [B, 3, n, n])` gives the patches [B, (n / patch)^2, width], row by row, as the last block leaves
    them, and the class token [B, embed] behind the last LayerNorm and the projection; neither is made of length 1.

    `grid` counts the patches of a side. Key names are those of the released models below `visual.`. Source: CLIP
    (arXiv 2103.00020).
    """

    def __init__(self, width: int, layers: int, patch: int, grid: int, embed: int):
        super().__init__()
        self.image_size = patch * grid
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(1 + grid * grid, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = nn.ModuleDict({"resblocks": nn.ModuleList(VisionBlock(width) for _ in range(layers))})
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.empty(width, embed))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        patches = self.conv1(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(patches), 1, -1), patches], 1)
        x = self.ln_pre(x + self.positional_embedding)
        for block in self.transformer["resblocks"].children():
            x = block(x)
        return x[:, 1:], self.ln_post(x[:, 0]) @ self.proj


class VisionBlock(nn.Module):
    """One pre-norm layer, [B, N, width] to the same: attention over all, then an MLP with the sigmoid's GELU."""

    def __init__(self, width: int):
        super().__init__()
        self.attn = FusedAttention(width, width // HEAD_WIDTH)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        inner = self.mlp["c_fc"](self.ln_2(x))
        return x + self.mlp["c_proj"](inner * torch.sigmoid(1.702 * inner))


class FusedAttention(nn.Module):
    """Self-attention without a mask whose three projections are one matrix, as in `torch.nn.MultiheadAttention`."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        return self.out_proj(multi_head_attention(query, key, value, self.heads))


def multi_head_attention(query: Tensor, key: Tensor, value: Tensor, heads: int, added: Tensor | None = None) -> Tensor:
    """Attention of [B, N, C] over keys and values [B, M, C], cut into heads and joined again; `added`, which may be
    broadcast to [B, heads, N, M], is added to the scaled products."""
    q, k, v = (each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in (query, key, value))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=added).transpose(1, 2).flatten(2)
