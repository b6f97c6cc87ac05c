"""Transformers over tokens as the pipeline calls them at each step: logits of the clean token at each place."""

import torch
from torch import Tensor, nn
from x2i.models.token_transformers.layers import table_norms
from x2i.models.token_transformers.unid3 import UniD3Transformer
from x2i.models.token_transformers.vq_diffusion import TokenTransformer, fold_tables

from ..to_onnx import Component, Sizes, batched_component
from .projection import KEYS, VALUES, pattern

CLASS_ID = "class_id"
TRANSFORMER = "transformer"
"""The graph's name."""
JOINT_OUTPUTS = ("image_logits", "text_logits")
DRAWS = ("draws_image", "draws_text")
"""What UniD3's graph reads besides tokens and timestep, from slots of the same names."""


class TokenLogits(nn.Module):
    """`forward(tokens int64 [B, N], timestep int64 [B], *context)` returns logits [B, N, classes].

    The context is `class_id`, int64 [B], where there are classes; every layer's keys, then every layer's values, [B, T,
    D] each, where texts are read; else nothing. Norms steered by timestep or class are tables here, and places one
    (see `fold_tables`): at released sizes, 19 layers of width 1024 and 100 steps, 76 of 389 million weights less, and
    no products of matrices for what has 100 values. The transformer that is given is changed so.
    """

    def __init__(self, transformer: TokenTransformer):
        super().__init__()
        self.transformer = fold_tables(transformer)

    def forward(self, tokens: Tensor, timestep: Tensor, *context: Tensor) -> Tensor:
        if self.transformer.settings.class_rows is not None:
            return self.transformer(tokens, timestep, class_id=context[0])
        return self.transformer(tokens, timestep, context=context)


def token_denoiser_component(
    transformer: TokenTransformer, absent_class: int | None = None, projection: Component | None = None
) -> Component:
    """The transformer's graph for any number of rows, and any length of text. Its tables are folded in place.

    `absent_class` is an id without an embedding that a run may ask for; the proof has it, too. `projection`, where
    texts are read, gives the keys and values: int8's ranges hold those of runs, and of no other size.
    """
    settings = transformer.settings
    assert (projection is None) == (settings.context_width is None), "a projection where texts are read"
    names = () if projection is None else projection.outputs
    rows = settings.class_rows

    def example(sizes: Sizes) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(31)
        batch = sizes["batch"]
        inputs = {
            "tokens": torch.randint(settings.classes + 1, (batch, settings.length), generator=random),
            "timestep": torch.randint(settings.steps, (batch,), generator=random),
        }
        if rows is not None:
            inputs[CLASS_ID] = torch.randint(rows, (batch,), generator=random)
            inputs[CLASS_ID][0] = rows - 1 if absent_class is None else absent_class
        if projection is not None:
            inputs |= projection.run(projection.example({"batch": batch, "tokens": sizes["context"]}))
        return inputs

    own = ("tokens", "timestep", *((CLASS_ID,) if rows is not None else ()))
    return Component(
        name=TRANSFORMER,
        module=TokenLogits(transformer).eval(),
        example=example,
        outputs=("logits",),
        free={name: {0: "batch"} for name in own} | {name: {0: "batch", 1: "context"} for name in names},
        trace={"batch": 2, "context": 9},
        proof={"batch": 3, "context": 5},
    )


def token_denoiser_context(transformer: TokenTransformer) -> dict[str, str]:
    """What the graph reads besides tokens and timestep, from slots of the same names."""
    if transformer.settings.class_rows is not None:
        return {CLASS_ID: CLASS_ID}
    reads_text = transformer.settings.context_width is not None
    return {pattern(kind): pattern(kind) for kind in (KEYS, VALUES)} if reads_text else {}


def joint_denoiser_component(transformer: UniD3Transformer) -> Component:
    """UniD3's graph, for any number of rows, each of which may draw the picture, the caption or both.

    The norms of the transformer that is given become tables: at the released sizes, 20 layers of width 1024 and 500
    steps, 61 of 157 million weights remain.
    """
    settings = transformer.settings
    table_norms(transformer)
    length = settings.image_length + settings.text_length

    def example(sizes: Sizes) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(41)
        batch = sizes["batch"]
        state = torch.randint(settings.classes + 1, (batch, length), generator=random)
        state[:, ::3] = settings.classes
        return {
            "tokens": state,
            "timestep": torch.randint(settings.timesteps, (batch,), generator=random),
            "draws_image": torch.arange(batch) != 1,
            "draws_text": torch.arange(batch) != 2,
        }

    return batched_component(TRANSFORMER, transformer, example, ("tokens", "timestep", *DRAWS), JOINT_OUTPUTS)
