"""Frido's first stage, its decoding half: the levels of the latents as codes, and the picture that they make.

Source: Frido (arXiv 2208.13753), its multi-scale VQGAN. The decoder is VQGAN's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..codecs.vqgan import FeatureDecoder, PyramidSettings, nearest_codes


@dataclass(frozen=True, slots=True)
class CodecSettings:
    """`codes` vectors of `widths` channels for each level, the coarsest first, and the decoder's sizes."""

    widths: tuple[int, ...]
    codes: tuple[int, ...]
    decoder: PyramidSettings

    @property
    def factor(self) -> int:
        """Pixels on the side of a cell of the latents."""
        return int(2 ** (self.decoder.levels - 1))


class FridoDecoder(nn.Module):
    """Latents of every level, [B, e, h, w] each, the coarsest first -> pixels [B, 3, h * factor, w * factor], about
    -1..1. `scale_factor` [levels] is what each level was multiplied by before it was noised."""

    scale_factor: Tensor

    def __init__(self, settings: CodecSettings):
        super().__init__()
        self.settings = settings
        self.ms_quantize = nn.ModuleList(
            nn.ModuleDict({"embedding": nn.Embedding(codes, width)})
            for codes, width in zip(settings.codes, settings.widths, strict=True)
        )
        self.post_quant_conv = nn.Conv2d(sum(settings.widths), settings.decoder.features, 1)
        self.decoder = FeatureDecoder(settings.decoder)
        self.register_buffer("scale_factor", torch.ones(len(settings.widths)))

    def codes(self, latents: Sequence[Tensor]) -> list[Tensor]:
        """Each level's codes, int64 [B, h, w]: of every cell the nearest vector, the first of several."""
        return [
            nearest_codes(level / self.scale_factor[number], self.codebook(number)).unflatten(1, level.shape[2:])
            for number, level in enumerate(latents)
        ]

    def codebook(self, number: int) -> Tensor:
        """A level's vectors, [codes, width]."""
        weight: Tensor = self.ms_quantize[number].get_submodule("embedding").get_parameter("weight")
        return weight

    def forward(self, latents: Sequence[Tensor]) -> Tensor:
        vectors = [
            F.embedding(codes, self.codebook(number)).movedim(3, 1) for number, codes in enumerate(self.codes(latents))
        ]
        # The finest level comes first here, and in the decoder alone.
        return self.decoder(self.post_quant_conv(torch.cat(vectors[::-1], dim=1)))
