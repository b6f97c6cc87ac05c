"""VQGAN: a picture as a grid of codes, and back.

Keys are those of taming-transformers' checkpoints. Source: VQGAN (arXiv 2012.09841) and its code, and the PatchVQGAN of
VQ-Diffusion (arXiv 2111.14822), which is the same network.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class PyramidSettings:
    """One half of a VQGAN, encoder or decoder, over levels from the finest to the coarsest.

    Level i has `width * multipliers[i]` channels, `blocks` residual blocks (a decoder one more), and attention behind
    each where `attends[i]`. `channels` are those of the picture, `features` those at the coarse end.
    """

    width: int
    multipliers: tuple[int, ...]
    blocks: int
    attends: tuple[bool, ...]
    channels: int
    features: int

    @property
    def levels(self) -> int:
        """How many there are; each but the coarsest is twice the size of the next."""
        return len(self.multipliers)


@dataclass(frozen=True, slots=True)
class VqganSettings:
    """Both halves, and the codebook between them: `codes` vectors of `code_width`. A `gumbel` one draws codes from
    logits where the others take the nearest."""

    encoder: PyramidSettings
    decoder: PyramidSettings
    code_width: int
    codes: int
    gumbel: bool = False

    @property
    def factor(self) -> int:
        """Pixels on the side of a code's patch."""
        return int(2 ** (self.decoder.levels - 1))


class GridBlock(nn.Module):
    """A residual block of two convolutions, [B, C, h, w] -> [B, C', h, w]."""

    def __init__(self, channels: int, channels_out: int):
        super().__init__()
        self.norm1, self.norm2 = _norm(channels), _norm(channels_out)
        self.conv1 = nn.Conv2d(channels, channels_out, 3, padding=1)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        if channels != channels_out:
            self.nin_shortcut = nn.Conv2d(channels, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(functional.silu(self.norm1(x)))
        h = self.conv2(functional.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class GridAttention(nn.Module):
    """Self-attention of one head over all places, [B, C, h, w] -> the same, with its input added."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = _norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        # The axis of its one head is there for the tracer, which knows no attention without.
        query, key, value = (part(normed).flatten(2).mT[:, None] for part in (self.q, self.k, self.v))
        attended = functional.scaled_dot_product_attention(query, key, value)
        return x + self.proj_out(attended[:, 0].mT.unflatten(2, x.shape[2:]))


class PyramidLevel(nn.Module):
    """The blocks of one size, each with its attention where the level has any."""

    def __init__(self, channels: int, channels_out: int, blocks: int, attends: bool):
        super().__init__()
        widths = [channels, *[channels_out] * blocks]
        self.block = nn.ModuleList(GridBlock(*pair) for pair in pairwise(widths))
        self.attn = nn.ModuleList(GridAttention(channels_out) for _ in range(blocks if attends else 0))

    def forward(self, x: Tensor) -> Tensor:
        for number, block in enumerate(self.block):
            x = block(x)
            if len(self.attn):
                x = self.attn[number](x)
        return x


class PyramidMiddle(nn.Module):
    """Block, attention, block at the coarsest size."""

    def __init__(self, channels: int):
        super().__init__()
        self.block_1, self.block_2 = GridBlock(channels, channels), GridBlock(channels, channels)
        self.attn_1 = GridAttention(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class Halving(nn.Module):
    """[B, C, h, w] -> [B, C, h / 2, w / 2]. The zeros of its padding are at the right and at the bottom alone."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(functional.pad(x, (0, 1, 0, 1)))


class Doubling(nn.Module):
    """[B, C, h, w] -> [B, C, 2h, 2w]: every value four times, then a convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))


class PictureEncoder(nn.Module):
    """Pixels float32 [B, channels, H, W], about -1..1 -> features [B, features, H / factor, W / factor]."""

    def __init__(self, settings: PyramidSettings):
        super().__init__()
        widths = [settings.width * each for each in (1, *settings.multipliers)]
        self.conv_in = nn.Conv2d(settings.channels, settings.width, 3, padding=1)
        self.down = nn.ModuleList()
        for number, attends in enumerate(settings.attends):
            level = PyramidLevel(widths[number], widths[number + 1], settings.blocks, attends)
            if number < settings.levels - 1:
                level.downsample = Halving(widths[number + 1])
            self.down.append(level)
        self.mid = PyramidMiddle(widths[-1])
        self.norm_out, self.conv_out = _norm(widths[-1]), nn.Conv2d(widths[-1], settings.features, 3, padding=1)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.conv_in(pixels)
        for level in self.down:
            x = level(x)
            if hasattr(level, "downsample"):
                x = level.get_submodule("downsample")(x)
        return self.conv_out(functional.silu(self.norm_out(self.mid(x))))


class FeatureDecoder(nn.Module):
    """Features float32 [B, features, h, w] -> pixels [B, channels, h * factor, w * factor], about -1..1."""

    def __init__(self, settings: PyramidSettings):
        super().__init__()
        widths = [settings.width * each for each in settings.multipliers]
        self.conv_in = nn.Conv2d(settings.features, widths[-1], 3, padding=1)
        self.mid = PyramidMiddle(widths[-1])
        self.up = nn.ModuleList()
        for number, attends in enumerate(settings.attends):
            level = PyramidLevel(
                widths[min(number + 1, settings.levels - 1)], widths[number], settings.blocks + 1, attends
            )
            if number:
                level.upsample = Doubling(widths[number])
            self.up.append(level)
        self.norm_out, self.conv_out = _norm(widths[0]), nn.Conv2d(widths[0], settings.channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        x = self.mid(self.conv_in(features))
        for level in reversed(self.up):
            x = level(x)
            if hasattr(level, "upsample"):
                x = level.get_submodule("upsample")(x)
        return self.conv_out(functional.silu(self.norm_out(x)))


class Vqgan(nn.Module):
    """Pictures to vectors and back. `codebook` is float32 [codes, code_width]; `proj` gives a Gumbel codebook's logits,
    [B, codes, h, w]."""

    def __init__(self, settings: VqganSettings):
        super().__init__()
        self.settings = settings
        self.encoder, self.decoder = PictureEncoder(settings.encoder), FeatureDecoder(settings.decoder)
        self.quant_conv = nn.Conv2d(settings.encoder.features, settings.code_width, 1)
        self.post_quant_conv = nn.Conv2d(settings.code_width, settings.decoder.features, 1)
        self.codebook = nn.Parameter(torch.empty(settings.codes, settings.code_width))
        if settings.gumbel:
            self.proj = nn.Conv2d(settings.code_width, settings.codes, 1)

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels float32 [B, channels, H, W] in -1..1 -> vectors [B, code_width, h, w], not yet codes."""
        return self.quant_conv(self.encoder(pixels))

    def decode(self, vectors: Tensor) -> Tensor:
        """Vectors of the codebook, [B, code_width, h, w] -> pixels float32 [B, channels, H, W], about -1..1."""
        return self.decoder(self.post_quant_conv(vectors))


def nearest_codes(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Vectors [B, code_width, h, w] -> the nearest rows of a codebook by squared distance, int64 [B, h * w]."""
    vectors = vectors.flatten(2).transpose(1, 2)
    # A vector's own square is the same for all codes.
    return (codebook.square().sum(1) - 2 * vectors @ codebook.T).argmin(-1)


def drawn_codes(logits: Tensor, exponential: Tensor) -> Tensor:
    """A Gumbel codebook's logits [B, codes, h, w] -> codes int64 [B, h * w], drawn by noise [B, h * w, codes],
    exponential of mean 1. Its authors draw even when nothing is trained."""
    return (logits.flatten(2).transpose(1, 2) - exponential.log()).argmax(-1)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)
