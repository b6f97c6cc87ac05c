"""aMUSEd's graphs: text encoder, projection, transformer, and both directions of the autoencoder."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from x2i.models.clip.projected_text import ProjectedText
from x2i.models.muse.amused_settings import MICRO_CONDITIONS
from x2i.models.muse.uvit2d import UVitContext, UVitLogits, modulations, reading_layers
from x2i.models.muse.vq_model import VqPicture, VqTokens

from ..to_onnx import Component, Sizes, batched_component
from .projection import KEYS, VALUES, drawn_rows, pattern
from .text import prompt_ids

if TYPE_CHECKING:
    from diffusers.models.autoencoders.vq_model import VQModel
    from diffusers.models.unets.uvit_2d import UVit2DModel

SCALE, SHIFT = "scale", "shift"


def projected_text_component(text: ProjectedText, tokens: int) -> Component:
    """The text encoder's graph: input_ids int64 [B, tokens] to `context` float32 [B, tokens, D] and `pooled` [B, P]."""
    config = text.config

    def example(sizes: Sizes) -> dict[str, Tensor]:
        return {"input_ids": prompt_ids(sizes["batch"], tokens, config.vocab_size, config.vocab_size - 1)}

    return batched_component("text_encoder", text, example, ("input_ids",), ("context", "pooled"))


def uvit_projection_component(model: "UVit2DModel", text: Component) -> Component:
    """All that the steps read besides tokens, from `context` [B, T, D], `pooled` [B, P] and `micro` [B, 5]: every
    reading layer's keys, [B, heads, C / heads, T], and values, [B, heads, T, C / heads], and every modulation's factor
    and summand, [B, 1, C]; B and T are free. Examples are drawn from what `text`, the text encoder's graph, gives."""
    read = text.run(text.example(text.proof))

    def example(sizes: Sizes) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(11)
        batch = sizes["batch"]
        micro = torch.tensor([512.0, 256.0, 8.0, 40.0, 6.0]) + torch.arange(batch)[:, None]
        return {
            "context": drawn_rows(read["context"], batch, sizes["tokens"], random),
            "pooled": drawn_rows(read["pooled"][:, None], batch, 1, random)[:, 0],
            "micro": micro[:, :MICRO_CONDITIONS],
        }

    return Component(
        name="projection",
        module=UVitContext(model).eval(),
        example=example,
        outputs=tuple(_context(model)),
        free={"context": {0: "batch", 1: "tokens"}, "pooled": {0: "batch"}, "micro": {0: "batch"}},
        trace={"batch": 2, "tokens": 9},
        proof={"batch": 3, "tokens": 5},
    )


def uvit_component(model: "UVit2DModel", projection: Component) -> Component:
    """The transformer's graph: `tokens` int64 [B, h, w] and what the projection gives to `logits` float32 [B, h, w, K].

    Any grid will do; one that the network halves has even sides. Examples hold what `projection` gives for its own:
    int8's ranges hold the numbers of runs, and of no other size.
    """
    context, config = _context(model), model.config
    side = 2 if config.downsample else 1
    free = {
        name: {axis: size for axis, size in enumerate(shape) if isinstance(size, str)}
        for name, shape in context.items()
    }

    def example(sizes: Sizes) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(12)
        batch = sizes["batch"]
        grid = batch, sizes["height"], sizes["width"]
        inputs = {"tokens": torch.randint(0, config.vocab_size, grid, generator=random)}
        return inputs | projection.run(projection.example(sizes))

    return Component(
        name="transformer",
        module=UVitLogits(model).eval(),
        example=example,
        outputs=("logits",),
        free={"tokens": {0: "batch", 1: "height", 2: "width"}, **free},
        trace={"batch": 2, "height": 3 * side, "width": 5 * side, "tokens": 9},
        proof={"batch": 3, "height": 4 * side, "width": 7 * side, "tokens": 5},
    )


def uvit_context() -> dict[str, str]:
    """What the transformer's graph reads besides tokens, in a plan's notation, from slots of the same names."""
    return {pattern(kind): pattern(kind) for kind in (KEYS, VALUES, SCALE, SHIFT)}


def vq_picture_component(vq: "VQModel") -> Component:
    """The decoder's graph: `tokens` int64 [B, h, w] to `image` float32 [B, 3, h * factor, w * factor], about -1..1."""

    def example(sizes: Sizes) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(13)
        grid = sizes["batch"], sizes["height"], sizes["width"]
        return {"tokens": torch.randint(0, vq.config.num_vq_embeddings, grid, generator=random)}

    return Component(
        name="decoder",
        module=VqPicture(vq).eval(),
        example=example,
        outputs=("image",),
        free={"tokens": {0: "batch", 1: "height", 2: "width"}},
        trace={"batch": 2, "height": 10, "width": 13},
        proof={"batch": 1, "height": 9, "width": 5},
    )


def vq_tokens_component(vq: "VQModel") -> Component:
    """The encoder's graph: `pixels` float32 [B, 3, H, W] from 0 to 1 to `tokens` int64
    [B, H / factor * W / factor], row by row."""
    factor = pixels_per_token(vq)

    def example(sizes: Sizes) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(14)
        shape = sizes["batch"], 3, sizes["height"], sizes["width"]
        return {"pixels": torch.rand(*shape, generator=random)}

    return Component(
        name="image_tokens",
        module=VqTokens(vq).eval(),
        example=example,
        outputs=("tokens",),
        free={"pixels": {0: "batch", 2: "height", 3: "width"}},
        trace={"batch": 2, "height": 5 * factor, "width": 7 * factor},
        proof={"batch": 1, "height": 9 * factor, "width": 8 * factor},
    )


def pixels_per_token(vq: "VQModel") -> int:
    """Of each side: every level of the autoencoder but the last halves the picture."""
    return 2 ** (len(vq.config.block_out_channels) - 1)


def _context(model: "UVit2DModel") -> dict[str, tuple[str | int, ...]]:
    """The shapes of the projection's outputs by their names, free sizes as words."""
    found: dict[str, tuple[str | int, ...]] = {}
    for kind in (KEYS, VALUES):
        for path, attention, _ in reading_layers(model):
            width = attention.to_k.out_features // attention.heads
            tokens = (width, "tokens") if kind == KEYS else ("tokens", width)
            found[f"{kind}.{path}"] = "batch", attention.heads, *tokens
    for kind in (SCALE, SHIFT):
        for path, linear in modulations(model).items():
            found[f"{kind}.{path}"] = "batch", 1, linear.out_features // 2
    return found
