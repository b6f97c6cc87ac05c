"""A VQ autoencoder of diffusers, VQModel, between pictures and the ids of its codebook (VQGAN, arXiv 2012.09841)."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from diffusers.models.autoencoders.vq_model import VQModel


class VqPicture(nn.Module):
    """`forward(tokens int64 [B, h, w])` returns the picture, [B, 3, h * factor, w * factor], about -1..1.

    aMUSEd's autoencoder itself gives about 0..1. The convolution behind the codebook sees one token at a time: both are
    one table here.
    """

    def __init__(self, vq: "VQModel"):
        super().__init__()
        self.decoder = vq.decoder
        conv = vq.post_quant_conv
        with torch.no_grad():
            rows = nn.functional.linear(vq.quantize.embedding.weight, conv.weight[:, :, 0, 0], conv.bias)
        self.table = nn.Embedding.from_pretrained(rows)

    def forward(self, tokens: Tensor) -> Tensor:
        picture: Tensor = self.decoder(self.table(tokens).permute(0, 3, 1, 2))
        return 2 * picture - 1


class VqTokens(nn.Module):
    """`forward(pixels [B, 3, H, W])`, from 0 to 1, returns the ids of the nearest rows of the codebook, int64
    [B, H / factor * W / factor], row by row."""

    def __init__(self, vq: "VQModel"):
        super().__init__()
        self.encoder, self.quant_conv = vq.encoder, vq.quant_conv
        self.codebook = vq.quantize.embedding

    def forward(self, pixels: Tensor) -> Tensor:
        latents = self.quant_conv(self.encoder(pixels)).flatten(2).transpose(1, 2)
        rows = self.codebook.weight
        # Of the squared distance the part that differs between rows.
        return (rows.square().sum(dim=1) - 2 * latents @ rows.T).argmin(dim=-1)
