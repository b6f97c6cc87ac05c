"""IP-Adapter's picture tokens: from a vision tower's view of pictures to the tokens that its attention reads."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .resampler import Resampler

if TYPE_CHECKING:
    from transformers import CLIPVisionModelWithProjection


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
