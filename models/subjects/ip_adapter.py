"""IP-Adapter Plus' resampler: a few learned queries that read all of a vision tower's tokens."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from transformers import CLIPVisionModelWithProjection


HEAD_WIDTH = 64


class ResamplerAttention(nn.Module):
    """latents [B, Q, W] attend to features [B, P, W] and to themselves, which gives [B, Q, W].

    It is not residual. Key names are the authors'.
    """

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
    """[..., width] -> the same: LayerNorm, linear to `hidden`, GELU, linear back. The caller adds the residual."""
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, hidden, bias=False), nn.GELU(), nn.Linear(hidden, width, bias=False)
    )


class EmbedTokens(nn.Module):
    """image_embeds [B, width_in] to [B, tokens, width_out]. Key names are the released checkpoints' own."""

    def __init__(self, width_in: int, width_out: int, tokens: int):
        super().__init__()
        self.tokens, self.width_in, self.width_out = tokens, width_in, width_out
        self.proj = nn.Linear(width_in, tokens * width_out)
        self.norm = nn.LayerNorm(width_out)

    def forward(self, image_embeds: Tensor) -> Tensor:
        return self.norm(self.proj(image_embeds).unflatten(-1, (self.tokens, self.width_out)))


class IpAdapterTokens(nn.Module):
    """`forward(pixels [n, 3, S, S])`, n pictures of one request, gives their tokens [2, n * tokens, D].

    Row 1 holds the pictures' tokens one after another, row 0 as many of no picture, for the unguided half of a batch.
    No picture is an embedding of zeros; for the resampler, which reads the tower's features, pixels of zeros.
    Source: IP-Adapter (arXiv 2308.06721) and its reference code.
    """

    def __init__(self, vision: "CLIPVisionModelWithProjection", projection: EmbedTokens | Resampler):
        super().__init__()
        self.vision, self.projection = vision, projection
        self.image_size = vision.config.image_size

    def forward(self, pixels: Tensor) -> Tensor:
        if isinstance(self.projection, Resampler):
            seen = self.vision(
                pixel_values=torch.cat([torch.zeros_like(pixels[:1]), pixels]), output_hidden_states=True
            )
            tokens = self.projection(seen.hidden_states[-2])
        else:
            embeds = self.vision(pixel_values=pixels).image_embeds
            tokens = self.projection(torch.cat([torch.zeros_like(embeds[:1]), embeds]))
        nothing, pictures = tokens[:1], tokens[1:]
        return torch.stack([nothing.expand_as(pictures).flatten(0, 1), pictures.flatten(0, 1)])
