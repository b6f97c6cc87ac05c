"""Codecs' two halves as the pipeline calls them: tokens to a picture or a sound, and a picture or a sound to tokens."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from x2i.models.codecs.jukebox import JukeboxLevel
from x2i.models.codecs.melgan import Melgan
from x2i.models.codecs.token_codec import TokenCodec
from x2i.models.codecs.vqgan import drawn_codes, nearest_codes

from ..to_onnx import Component, Sizes

TOKENS_GATE = 0.01
"""The share of a picture's tokens that may differ from torch's: those whose two best codes are equally near."""


class TokenDecoder(nn.Module):
    """`forward(tokens int64 [B, h * w])` returns the picture, [B, channels, h * factor, w * factor].

    A token's vector, behind the 1 x 1 convolution that follows the codebook, is one row of a table. Tokens go row by
    row, or with `by_columns` column by column. With `clamps` the picture keeps to -1..1.
    """

    def __init__(self, codec: TokenCodec, grid: tuple[int, int], by_columns: bool = False, clamps: bool = True):
        super().__init__()
        self.decoder, self.grid, self.by_columns, self.clamps = codec.vqgan.decoder, grid, by_columns, clamps
        convolution = codec.vqgan.post_quant_conv
        rows = functional.linear(codec.vqgan.codebook[codec.codes], convolution.weight[:, :, 0, 0], convolution.bias)
        self.table = nn.Parameter(rows, requires_grad=False)

    def forward(self, tokens: Tensor) -> Tensor:
        vectors = self.table[tokens].transpose(1, 2)
        if self.by_columns:
            vectors = vectors.unflatten(2, self.grid[::-1]).transpose(2, 3)
        else:
            vectors = vectors.unflatten(2, self.grid)
        picture = self.decoder(vectors)
        return picture.clamp(-1, 1) if self.clamps else picture


class PictureTokens(nn.Module):
    """`forward(pixels [B, channels, H, W])` returns the picture's tokens, int64 [B, h * w], row by row.

    Where the codebook is a Gumbel one it takes noise behind the pixels, [B, h * w, codes], exponential of mean 1.
    """

    reduced: Tensor | None

    def __init__(self, codec: TokenCodec):
        super().__init__()
        vqgan = codec.vqgan
        self.encoder, self.quant_conv = vqgan.encoder, vqgan.quant_conv
        if vqgan.settings.gumbel:
            self.proj = vqgan.proj
        else:
            self.codebook = vqgan.codebook
        self.register_buffer("reduced", codec.reduced)

    def forward(self, pixels: Tensor, exponential: Tensor | None = None) -> Tensor:
        vectors = self.quant_conv(self.encoder(pixels))
        if exponential is None:
            codes = nearest_codes(vectors, self.codebook)
        else:
            codes = drawn_codes(self.proj(vectors), exponential)
        return codes if self.reduced is None else self.reduced[codes]


class MelDecoder(nn.Module):
    """`forward(tokens int64 [B, h * w])`, column by column, returns a mel spectrogram, [B, bands, frames].

    The codec's picture of one channel, about -1..1, becomes about 0..1; its authors let it leave either.
    """

    def __init__(self, codec: TokenCodec, grid: tuple[int, int]):
        super().__init__()
        self.picture = TokenDecoder(codec, grid, by_columns=True, clamps=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return (self.picture(tokens)[:, 0] + 1) / 2


class CodesToWave(nn.Module):
    """`forward(tokens int64 [B, N])` returns a waveform, [B, N * hop]."""

    def __init__(self, jukebox: JukeboxLevel):
        super().__init__()
        self.codebook, self.decoder = jukebox.codebook, jukebox.decoder

    def forward(self, tokens: Tensor) -> Tensor:
        return self.decoder(self.codebook[tokens].mT)[:, 0]


class WaveToCodes(nn.Module):
    """`forward(waveform [B, N * hop])` returns tokens, int64 [B, N]."""

    def __init__(self, jukebox: JukeboxLevel):
        super().__init__()
        self.codebook, self.encoder = jukebox.codebook, jukebox.encoder

    def forward(self, waveform: Tensor) -> Tensor:
        return nearest_codes(self.encoder(waveform[:, None])[:, :, None], self.codebook)


def token_decoder_component(codec: TokenCodec, grid: tuple[int, int]) -> Component:
    """A picture's graph: `tokens` int64 [B, h * w] of a `grid` (h, w) to `image` [B, channels, H, W] in -1..1."""
    return _decoder(TokenDecoder(codec, grid), codec.classes, grid, "image")


def mel_decoder_component(codec: TokenCodec, grid: tuple[int, int]) -> Component:
    """A spectrogram's graph: `tokens` int64 [B, h * w] of a `grid` (h, w) to `mel` [B, bands, frames], about 0..1."""
    return _decoder(MelDecoder(codec, grid), codec.classes, grid, "mel")


def wave_decoder_component(jukebox: JukeboxLevel, length: int) -> Component:
    """A sound's graph: `tokens` int64 [B, length] to `waveform` float32 [B, length * hop]."""
    return _decoder(CodesToWave(jukebox), jukebox.settings.codes, (1, length), "waveform")


def _decoder(module: nn.Module, classes: int, grid: tuple[int, int], output: str) -> Component:
    def example(sizes: Sizes) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(21)
        return {"tokens": torch.randint(classes, (sizes["batch"], grid[0] * grid[1]), generator=random)}

    return Component(
        name="decoder",
        module=module.eval(),
        example=example,
        outputs=(output,),
        free={"tokens": {0: "batch"}},
        trace={"batch": 2},
        proof={"batch": 1},
    )


def vocoder_component(melgan: Melgan, frames: int) -> Component:
    """The vocoder's graph: `mel` float32 [B, bands, frames] to `waveform` float32 [B, samples] in -1..1."""

    def example(sizes: Sizes) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(23)
        return {"mel": torch.rand(sizes["batch"], melgan.settings.mels, frames, generator=random)}

    return Component(
        name="vocoder",
        module=melgan.eval(),
        example=example,
        outputs=("waveform",),
        free={"mel": {0: "batch"}},
        trace={"batch": 2},
        proof={"batch": 1},
    )


def wave_tokens_component(jukebox: JukeboxLevel, length: int) -> Component:
    """A sound's encoder: `waveform` float32 [B, length * hop] to `tokens` int64 [B, length]."""

    def example(sizes: Sizes) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(24)
        return {"waveform": torch.rand(sizes["batch"], length * jukebox.settings.hop, generator=random) * 2 - 1}

    return Component(
        name="sound_tokens",
        module=WaveToCodes(jukebox).eval(),
        example=example,
        outputs=("tokens",),
        free={"waveform": {0: "batch"}},
        trace={"batch": 2},
        proof={"batch": 1},
        gate=TOKENS_GATE,
    )


def picture_tokens_component(codec: TokenCodec, grid: tuple[int, int]) -> Component:
    """The encoder's graph: `pixels` float32 [B, channels, H, W] in -1..1 to `tokens` int64 [B, h * w], row by row.

    That of a Gumbel codebook takes `exponential`, float32 [B, h * w, codes], too.
    """
    settings = codec.vqgan.settings
    height, width = (side * settings.factor for side in grid)

    def example(sizes: Sizes) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(22)
        pixels = torch.rand(sizes["batch"], settings.encoder.channels, height, width, generator=random) * 2 - 1
        noise = torch.empty(sizes["batch"], grid[0] * grid[1], settings.codes).exponential_(generator=random)
        return {"pixels": pixels} | ({"exponential": noise} if settings.gumbel else {})

    return Component(
        name="image_tokens",
        module=PictureTokens(codec).eval(),
        example=example,
        outputs=("tokens",),
        free={name: {0: "batch"} for name in ("pixels", *(("exponential",) if settings.gumbel else ()))},
        trace={"batch": 2},
        proof={"batch": 1},
        gate=TOKENS_GATE,
    )
