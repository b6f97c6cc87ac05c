"""UniD3's transformer as the pipeline calls it at each step: logits of a picture's clean tokens and its caption's."""

import torch
from torch import Tensor
from x2i.models.token_transformers.layers import table_norms
from x2i.models.token_transformers.unid3 import UniD3Transformer

from ..to_onnx import Component, Sizes

JOINT_OUTPUTS = ("image_logits", "text_logits")
DRAWS = ("draws_image", "draws_text")
"""What the graph reads besides tokens and timestep, from slots of the same names."""


def joint_denoiser_component(transformer: UniD3Transformer) -> Component:
    """The graph for any number of rows, each of which may draw the picture, the caption or both.

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

    return Component(
        name="transformer",
        module=transformer.eval(),
        example=example,
        outputs=JOINT_OUTPUTS,
        free={name: {0: "batch"} for name in ("tokens", "timestep", *DRAWS)},
        trace={"batch": 2},
        proof={"batch": 3},
    )
