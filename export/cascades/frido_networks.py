"""Frido's networks as its processes call them: tokens to a context and its keys and values, the noise of each level,
what lies between the levels, and the picture of both."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from x2i.models.frido.codec import FridoDecoder
from x2i.models.frido.condition import TokenEncoder
from x2i.models.frido.spade_blocks import Pair
from x2i.models.frido.unet import FridoUnet, UnetSettings

from ..components.projection import KEYS, VALUES, layer_names, projection_component
from ..to_onnx import Component, Sizes, batched_component

FINISHED = "finished"
"""What is read of the levels before one."""
SCALES, SHIFTS = "scale", "shift"
"""Of a norm of the UNet, before its path."""
UNET_SIZES: tuple[Sizes, Sizes] = (
    {"batch": 2, "height": 4, "width": 5, "tokens": 8},
    {"batch": 3, "height": 3, "width": 4, "tokens": 11},
)
"""Those at which graphs of the UNet are traced, and those at which they are proven."""


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
    """`forward(latents [B, e, h, w], timestep [B], *context)` returns the noise of a level, [B, e, h, w].

    The context is every cross-attention's keys, then every one's values, [B, T, C] each; and but for the coarsest level
    every norm's scale, then every one's shift, [B, C, h / 2^k, w / 2^k] each.
    """

    def __init__(self, unet: FridoUnet, number: int):
        super().__init__()
        self.unet, self.number = unet, number
        self._attentions, self._norms = len(unet.attentions()), len(unet.norms())

    def forward(self, latents: Tensor, timestep: Tensor, *context: Tensor) -> Tensor:
        keys, values, maps = _cut(context, self._attentions, self._attentions)
        scales, shifts, _ = _cut(maps, self._norms, self._norms)
        modulated = zip(scales, shifts, strict=True) if self.number else None
        return self.unet(self.number, latents, timestep, zip(keys, values, strict=True), modulated)


class _Guided(nn.Module):
    """`forward(finished [B, E, h, w])` returns the scale of every norm of a level, then every one's shift."""

    def __init__(self, unet: FridoUnet, number: int):
        super().__init__()
        self.unet, self.number = unet, number

    def forward(self, finished: Tensor) -> tuple[Tensor, ...]:
        return _joined(self.unet.maps(self.number, finished))


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

    return batched_component("text_encoder", encoder, example, ("input_ids",), ("context",))


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


def keys_component(unet: FridoUnet) -> Component:
    """The graph of what a context's cross-attentions read, once a picture: context [B, T, D] to `key.PATH` and
    `value.PATH` [B, T, C]."""
    weights = {path: (each.to_k.weight, each.to_v.weight) for path, each in unet.attentions().items()}
    return replace(projection_component(weights), lora=None)


def guides_component(unet: FridoUnet, number: int) -> Component:
    """The graph of what a level's norms read, once a picture: `finished` [B, E, h, w], the channels of the levels
    before it, to `scale.PATH` and `shift.PATH`."""
    settings, multiple = unet.settings, cells_multiple(unet.settings)

    def example(sizes: Sizes) -> dict[str, Tensor]:
        return {FINISHED: _finished(settings, number, sizes["batch"], (sizes["height"], sizes["width"]))}

    names = [*layer_names(SCALES, unet.norms()), *layer_names(SHIFTS, unet.norms())]
    # Halves of a free size have a name of it in the graph, which those of a multiple have not.
    free = {FINISHED: {0: "batch", 2: "height", 3: "width"}}
    trace, proof = (
        {name: size if name == "batch" else size * multiple for name, size in sizes.items() if name != "tokens"}
        for sizes in UNET_SIZES
    )
    return Component("guides", _Guided(unet, number).eval(), example, tuple(names), free, trace, proof)


def level_component(unet: FridoUnet, number: int, name: str) -> Component:
    """The graph of one level's noise, of a context of any length."""
    settings, multiple = unet.settings, cells_multiple(unet.settings)

    def example(sizes: Sizes) -> dict[str, Tensor]:
        batch, random = sizes["batch"], torch.Generator().manual_seed(51 + number)
        inputs = {
            "latents": torch.randn(batch, settings.levels[number], *_cells(settings, sizes), generator=random),
            "timestep": torch.rand(batch, generator=random) * 999,
        }
        with torch.no_grad():
            read = _named(KEYS, VALUES, unet.attentions(), unet.pairs(_context(settings, sizes)))
            if number:
                maps = unet.maps(number, _finished(settings, number, batch, _cells(settings, sizes)))
                read |= _named(SCALES, SHIFTS, unet.norms(), maps)
        return inputs | read

    plane = {0: "batch", 2: f"{multiple}*height", 3: f"{multiple}*width"}
    free = {"latents": plane, "timestep": {0: "batch"}}
    free |= {
        name: {0: "batch", 1: "tokens"} for kind in (KEYS, VALUES) for name in layer_names(kind, unet.attentions())
    }
    if number:
        planes = [_plane(multiple >> norm.halvings) for norm in unet.norms().values()]
        for kind in (SCALES, SHIFTS):
            free |= dict(zip(layer_names(kind, unet.norms()), planes, strict=True))
    return Component(name, LevelNoise(unet, number).eval(), example, ("noise",), free, *UNET_SIZES)


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


def _plane(multiple: int) -> dict[int, str]:
    """The free axes of an array of so many times the least size."""
    times = f"{multiple}*" if multiple > 1 else ""
    return {0: "batch", 2: f"{times}height", 3: f"{times}width"}


def _cells(settings: UnetSettings, sizes: Sizes) -> tuple[int, int]:
    multiple = cells_multiple(settings)
    return sizes["height"] * multiple, sizes["width"] * multiple


def _context(settings: UnetSettings, sizes: Sizes) -> Tensor:
    random = torch.Generator().manual_seed(56)
    return torch.randn(sizes["batch"], sizes["tokens"], settings.context_width, generator=random)


def _finished(settings: UnetSettings, number: int, batch: int, cells: tuple[int, int]) -> Tensor:
    size = batch, sum(settings.levels[:number]), *cells
    return torch.randn(size, generator=torch.Generator().manual_seed(57))


def _named(first: str, second: str, paths: Collection[str], pairs: Sequence[Pair]) -> dict[str, Tensor]:
    """The first of all pairs by their paths, then the second of all."""
    names = [*layer_names(first, paths), *layer_names(second, paths)]
    return dict(zip(names, _joined(pairs), strict=True))


def _joined(pairs: Sequence[Pair]) -> tuple[Tensor, ...]:
    """The first of all pairs, then the second of all."""
    return (*(first for first, _ in pairs), *(second for _, second in pairs))


def _cut(tensors: Sequence[Tensor], *counts: int) -> tuple[Sequence[Tensor], ...]:
    """Stretches of so many tensors, and the rest."""
    found = []
    for count in counts:
        found.append(tensors[:count])
        tensors = tensors[count:]
    return (*found, tensors)


def _near_codes(decoder: FridoDecoder, number: int, shape: tuple[int, ...], random: torch.Generator) -> Tensor:
    """Latents [B, e, h, w] of a level a little off its codes [B, h, w]."""
    codebook = decoder.codebook(number)
    codes = torch.randint(len(codebook), shape, generator=random)
    vectors = codebook[codes].movedim(3, 1)
    noise = torch.randn(vectors.shape, generator=random) * codebook.std() / 100
    return (vectors + noise) * decoder.scale_factor[number]


def _tokens(classes: int, batch: int, length: int) -> Tensor:
    return torch.randint(classes, (batch, length), generator=torch.Generator().manual_seed(55))
