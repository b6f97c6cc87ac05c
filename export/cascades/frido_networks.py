"""Frido's networks as its processes call them: tokens to a context, the noise of each level, the mean between levels,
and the picture of all of them."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from x2i.models.frido.codec import FridoDecoder
from x2i.models.frido.condition import TokenEncoder
from x2i.models.frido.unet import FridoUnet, UnetSettings

from ..to_onnx import Component, Sizes

FINISHED = "finished"
"""What every level but the coarsest reads of those before it."""


class LayoutContext(nn.Module):
    """`forward(tokens int64 [B, T], unconditional bool [B])` returns a layout's states [B, T, D]; of a row that is
    steered away from zeros, which is what Frido guides a layout with."""

    def __init__(self, encoder: TokenEncoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, tokens: Tensor, unconditional: Tensor) -> Tensor:
        states = self.encoder(tokens)
        return torch.where(unconditional[:, None, None], torch.zeros_like(states), states)


class LevelNoise(nn.Module):
    """`forward(latents [B, e, h, w], timestep [B], context [B, T, D])` returns the noise of the coarsest level, [B, e,
    h, w]. A finer one reads the channels of all levels before it, [B, E, h, w], behind the context."""

    def __init__(self, unet: FridoUnet, number: int):
        super().__init__()
        self.unet, self.number = unet, number

    def forward(self, latents: Tensor, timestep: Tensor, context: Tensor, finished: Tensor | None = None) -> Tensor:
        return self.unet(self.number, latents, timestep, context, finished)


class _Pooled(nn.Module):
    """`forward(drawn [B, e, h, w])` returns the mean of each block of two by two cells in all four of them."""

    def forward(self, drawn: Tensor) -> Tensor:
        return F.interpolate(F.avg_pool2d(drawn, 2), scale_factor=2.0, mode="nearest")


class LevelsDecoder(nn.Module):
    """`forward(latents [B, e, h, w], finished [B, E, h, w])` returns the picture [B, 3, h * factor, w * factor] in
    -1..1, of the finest level and of that before it, each taken for its nearest codes."""

    def __init__(self, decoder: FridoDecoder):
        super().__init__()
        self.decoder = decoder

    def forward(self, latents: Tensor, finished: Tensor) -> Tensor:
        return self.decoder([finished, latents]).clamp(-1, 1)


def prompt_context_component(encoder: TokenEncoder) -> Component:
    """The graph of a prompt's encoder: input_ids int64 [B, positions] to context [B, positions, D]."""
    settings = encoder.settings

    def example(sizes: Sizes) -> dict[str, Tensor]:
        return {"input_ids": _tokens(settings.classes, sizes["batch"], settings.positions)}

    free = {"input_ids": {0: "batch"}}
    return Component("text_encoder", encoder.eval(), example, ("context",), free, {"batch": 2}, {"batch": 3})


def layout_context_component(encoder: TokenEncoder) -> Component:
    """The graph of a layout's encoder: layout_tokens int64 [B, T] and unconditional bool [B] to context [B, T, D]."""
    settings = encoder.settings

    def example(sizes: Sizes) -> dict[str, Tensor]:
        batch = sizes["batch"]
        return {
            "layout_tokens": _tokens(settings.classes, batch, min(sizes["tokens"], settings.positions)),
            "unconditional": torch.arange(batch) % 2 == 0,
        }

    return Component(
        "layout_encoder",
        LayoutContext(encoder).eval(),
        example,
        ("context",),
        free={"layout_tokens": {0: "batch", 1: "tokens"}, "unconditional": {0: "batch"}},
        trace={"batch": 2, "tokens": 8},
        proof={"batch": 3, "tokens": 11},
    )


def level_component(unet: FridoUnet, number: int, name: str, window: int | None) -> Component:
    """The graph of one level's noise; `window` is the context's length, None where any may come."""
    settings, multiple = unet.settings, cells_multiple(unet.settings)

    def example(sizes: Sizes) -> dict[str, Tensor]:
        batch, random = sizes["batch"], torch.Generator().manual_seed(51 + number)
        cells = sizes["height"] * multiple, sizes["width"] * multiple
        tokens = sizes["tokens"] if window is None else window
        inputs = {
            "latents": torch.randn(batch, settings.levels[number], *cells, generator=random),
            "timestep": torch.rand(batch, generator=random) * 999,
            "context": torch.randn(batch, tokens, settings.context_width, generator=random),
        }
        before = torch.randn(batch, sum(settings.levels[:number]), *cells, generator=random)
        return inputs | ({FINISHED: before} if number else {})

    plane = {0: "batch", 2: f"{multiple}*height", 3: f"{multiple}*width"}
    free = {"latents": plane, "timestep": {0: "batch"}, "context": {0: "batch"} | ({} if window else {1: "tokens"})}
    trace, proof = {"batch": 2, "height": 4, "width": 5}, {"batch": 3, "height": 3, "width": 4}
    return Component(
        name,
        LevelNoise(unet, number).eval(),
        example,
        ("noise",),
        free | ({FINISHED: plane} if number else {}),
        trace | ({} if window else {"tokens": 8}),
        proof | ({} if window else {"tokens": 11}),
    )


def pooled_component(unet: FridoUnet) -> Component:
    """The graph between the levels: `drawn` [B, e, h, w] to `pooled` of the same shape."""
    channels = unet.settings.levels[0]

    def example(sizes: Sizes) -> dict[str, Tensor]:
        size = sizes["batch"], channels, 2 * sizes["height"], 2 * sizes["width"]
        return {"drawn": torch.randn(size, generator=torch.Generator().manual_seed(53))}

    free = {"drawn": {0: "batch", 2: "2*height", 3: "2*width"}}
    sizes = {"batch": 2, "height": 4, "width": 5}, {"batch": 3, "height": 3, "width": 4}
    return Component("pooled", _Pooled().eval(), example, ("pooled",), free, *sizes)


def levels_decoder_component(decoder: FridoDecoder) -> Component:
    """The decoder's graph: `latents` of the finest level and `finished` ones of that before it to `image` [B, 3, H,
    W]."""

    def example(sizes: Sizes) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(54)
        cells = sizes["height"], sizes["width"]
        # Near the codes themselves, as the last latents are; further off many are about as near.
        parts = {"latents": 1, FINISHED: 0}
        return {name: _near_codes(decoder, number, (sizes["batch"], *cells), random) for name, number in parts.items()}

    plane = {0: "batch", 2: "height", 3: "width"}
    sizes = {"batch": 2, "height": 6, "width": 8}, {"batch": 3, "height": 4, "width": 5}
    free = {"latents": plane, FINISHED: plane}
    return Component("decoder", LevelsDecoder(decoder).eval(), example, ("image",), free, *sizes)


def cells_multiple(settings: UnetSettings) -> int:
    """What every side of the latents is a multiple of: the UNet halves it, and so does the mean between levels."""
    return max(settings.multiple, 2)


def _near_codes(decoder: FridoDecoder, number: int, shape: tuple[int, ...], random: torch.Generator) -> Tensor:
    """Latents [B, e, h, w] of a level a little off its codes [B, h, w]."""
    codebook = decoder.codebook(number)
    codes = torch.randint(len(codebook), shape, generator=random)
    vectors = codebook[codes].movedim(3, 1)
    noise = torch.randn(vectors.shape, generator=random) * codebook.std() / 100
    return (vectors + noise) * decoder.scale_factor[number]


def _tokens(classes: int, batch: int, length: int) -> Tensor:
    return torch.randint(classes, (batch, length), generator=torch.Generator().manual_seed(55))
