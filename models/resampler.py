"""IP-Adapter Plus' resampler: a few learned queries that read all of a vision tower's tokens."""

import torch
from torch import Tensor, nn
from torch.nn import functional

HEAD_WIDTH = 64


class ResamplerAttention(nn.Module):
    """latents [B, Q, W] attend to features [B, P, W] and to themselves; not residual. Key names are the authors'."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.heads = inner // HEAD_WIDTH
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)

    def forward(self, features: Tensor, latents: Tensor) -> Tensor:
        latents = self.norm2(latents)
        key, value = self.to_kv(torch.cat([self.norm1(features), latents], 1)).chunk(2, -1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (self.to_q(latents), key, value))
        attended = functional.scaled_dot_product_attention(q, k, v)
        return self.to_out(attended.transpose(1, 2).flatten(2))


class Resampler(nn.Module):
    """features [B, P, width_in], the tower's second to last hidden state, to [B, queries, width_out].

    Source: IP-Adapter (arXiv 2308.06721) and its reference code, whose key names these are; heads are 64 wide.
    """

    def __init__(self, width_in: int, width: int, width_out: int, queries: int, depth: int, inner: int, hidden: int):
        super().__init__()
        self.tokens, self.width_in, self.width_out = queries, width_in, width_out
        self.latents = nn.Parameter(torch.empty(1, queries, width))
        self.proj_in = nn.Linear(width_in, width)
        self.proj_out = nn.Linear(width, width_out)
        self.norm_out = nn.LayerNorm(width_out)
        self.layers = nn.ModuleList(
            nn.ModuleList([ResamplerAttention(width, inner), feed_forward(width, hidden)]) for _ in range(depth)
        )

    def forward(self, features: Tensor) -> Tensor:
        features = self.proj_in(features)
        latents = self.latents.expand(features.shape[0], -1, -1)
        for number in range(len(self.layers)):
            latents = self.layers.get_submodule(f"{number}.0")(features, latents) + latents
            latents = self.layers.get_submodule(f"{number}.1")(latents) + latents
        return self.norm_out(self.proj_out(latents))


def feed_forward(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, hidden, bias=False), nn.GELU(), nn.Linear(hidden, width, bias=False)
    )
