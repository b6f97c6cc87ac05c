"""FastComposer's fusion: a subject's picture joins the text at the word that stands for it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FusionBlock(nn.Module):
    """LayerNorm, linear, exact GELU, linear. What is added to its output is the caller's."""

    def __init__(self, width_in: int, width_out: int):
        super().__init__()
        self.layernorm = nn.LayerNorm(width_in)
        self.fc1 = nn.Linear(width_in, width_out)
        self.fc2 = nn.Linear(width_out, width_out)

    def forward(self, features: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(self.layernorm(features))))


class Postfuse(nn.Module):
    """`forward(context [B, T, E], objects [1 or B, n, E], object_index int64 [B, T])` gives the context [B, T, E].

    Where object_index is k >= 0, the text's vector and that of object k become one; where it is -1, the text's vector
    stays as it is. The caller sees to object_index < n, and to n >= 1. Key names are the released checkpoint's own.
    Source: FastComposer (arXiv 2305.10431) and its reference code.
    """

    def __init__(self, width: int):
        super().__init__()
        self.width = width
        self.mlp1 = FusionBlock(2 * width, width)
        self.mlp2 = FusionBlock(width, width)
        self.layer_norm = nn.LayerNorm(width)

    def forward(self, context: Tensor, objects: Tensor, object_index: Tensor) -> Tensor:
        chosen = object_index.clamp(min=0).unsqueeze(-1).expand(-1, -1, self.width)
        placed = objects.expand(context.shape[0], -1, -1).gather(1, chosen)
        joined = self.mlp1(torch.cat([context, placed], -1)) + context
        fused = self.layer_norm(self.mlp2(joined) + joined)
        return torch.where((object_index >= 0).unsqueeze(-1), fused, context)
