"""FastComposer's two graphs: pictures of subjects to vectors, and vectors into the words of the prompt."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from x2i.models.subjects.fastcomposer import Postfuse

from ..to_onnx import Component, Sizes

if TYPE_CHECKING:
    from transformers import CLIPVisionModelWithProjection


class _Objects(nn.Module):
    """`forward(pixels [1, n, 3, S, S])` returns a vector for each of n pictures, [1, n, E], not normalised."""

    def __init__(self, vision: "CLIPVisionModelWithProjection"):
        super().__init__()
        self.vision = vision

    def forward(self, pixels: Tensor) -> Tensor:
        return self.vision(pixel_values=pixels[0]).image_embeds[None]


def objects_component(vision: "CLIPVisionModelWithProjection") -> Component:
    """Vision tower and projection in one graph: pixels [1, n, 3, S, S] to objects [1, n, E], n free."""
    size = vision.config.image_size

    def example(sizes: Sizes) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(10)
        return {"pixels": torch.randn(1, sizes["objects"], 3, size, size, generator=random)}

    return Component(
        name="image_encoder",
        module=_Objects(vision).eval(),
        example=example,
        outputs=("objects",),
        free={"pixels": {1: "objects"}},
        trace={"objects": 2},
        proof={"objects": 3},
    )


def postfuse_component(postfuse: Postfuse) -> Component:
    """The fusion's graph: context [B, T, D], objects [B, n, D], their index [B, T] (-1: none) to a context."""

    def example(sizes: Sizes) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(11)
        batch, tokens, objects = sizes["batch"], sizes["tokens"], sizes["objects"]
        return {
            "context": torch.randn(batch, tokens, postfuse.width, generator=random),
            "objects": torch.randn(batch, objects, postfuse.width, generator=random),
            "object_index": (torch.arange(batch * tokens) % (objects + 2) - 2).clamp(min=-1).view(batch, tokens),
        }

    return Component(
        name="postfuse",
        module=postfuse.eval(),
        example=example,
        outputs=("fused",),
        free={
            "context": {0: "batch", 1: "tokens"},
            "objects": {0: "batch", 1: "objects"},
            "object_index": {0: "batch", 1: "tokens"},
        },
        trace={"batch": 2, "tokens": 9, "objects": 4},
        proof={"batch": 3, "tokens": 5, "objects": 2},
    )
