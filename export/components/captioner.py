"""DDCap as its conditioner and its loop call it: a picture's condition, its keys and values, the denoiser of words."""

import torch
from torch import Tensor
from x2i.models.token_transformers.ddcap import CaptionDenoiser, Ddcap, PictureCondition, PictureProjection

from ..to_onnx import Component, Sizes, batched_component
from .projection import KEYS, VALUES, drawn_rows, layer_names


def picture_component(model: Ddcap) -> Component:
    """From one picture's pixels [1, 3, n, n] to `context` [2, P, D], of no picture and of this one, and
    `length_logits` [1, tokens]."""
    condition = PictureCondition(model).eval()
    size = model.sizes.patch * model.sizes.grid

    def example(sizes: Sizes) -> dict[str, Tensor]:
        return {"pixels": torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(12))}

    outputs = ("context", "length_logits")
    return Component("image_encoder", condition, example, outputs, free={}, trace={}, proof={})


def picture_projection_component(model: Ddcap, picture: Component) -> Component:
    """All layers' keys and values [B, P, D] of the condition [B, P, D]. Examples are drawn from what `picture`, the
    image encoder's graph, gives."""
    projection = PictureProjection(model).eval()
    contexts = picture.run(picture.example(picture.proof))["context"]

    def example(sizes: Sizes) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(13)
        return {"context": drawn_rows(contexts, sizes["batch"], contexts.shape[1], random)}

    return batched_component("projection", projection, example, ("context",), _key_values(projection.layers))


def caption_component(model: Ddcap, projection: Component) -> Component:
    """The loop's graph: tokens [B, N] and timestep [B] int64 with all keys and values to `logits` [B, N, V]. Examples
    hold what `projection` gives for its own."""
    kept = model.sizes

    def example(sizes: Sizes) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(14)
        batch = sizes["batch"]
        # A third is still the mask.
        drawn = torch.randint(kept.vocab * 3 // 2, (batch, kept.tokens), generator=random).clamp(max=kept.mask_id)
        found = {"tokens": drawn, "timestep": torch.arange(batch) * 7 % kept.time_rows}
        return found | projection.run(projection.example(sizes))

    inputs = "tokens", "timestep", *projection.outputs
    return batched_component("transformer", CaptionDenoiser(model), example, inputs, ("logits",))


def _key_values(layers: tuple[str, ...]) -> tuple[str, ...]:
    return (*layer_names(KEYS, layers), *layer_names(VALUES, layers))
