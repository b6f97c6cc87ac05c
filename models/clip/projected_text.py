"""CLIP's text encoder with its projection to the space that texts and pictures share (CLIPTextModelWithProjection)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn

from ..errors import CheckpointError
from ..readers.loading import Load, build_module
from .text_encoder import EXTRAS, empty_text_encoder, text_encoder_load, text_layout
from .text_layers import causal_mask, encoder_with

if TYPE_CHECKING:
    from transformers import CLIPTextModel

PROJECTION = "text_projection.weight"
OLD_END = 2
"""The end token that configurations of old name, whatever their tokenizer's is."""


class ProjectedText(nn.Module):
    """`forward(input_ids [B, T])` returns the state before the last layer, [B, T, D], without the final LayerNorm, and
    the projection of the end token's last state, [B, P].

    Padding is not masked. The end token is the first of the id that the configuration names; where that is OLD_END, the
    first of the largest id. Source: transformers.
    """

    def __init__(self, model: "CLIPTextModel", projection: nn.Linear):
        super().__init__()
        inner = getattr(model, "text_model", model)  # transformers before version 5 has a model inside the model
        layers = inner.encoder.layers
        self.embeddings, self.final_layer_norm, self.projection = inner.embeddings, inner.final_layer_norm, projection
        self.before, self.last = encoder_with(inner.encoder, layers[:-1]), encoder_with(inner.encoder, layers[-1:])
        self.config = model.config

    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        hidden, last = self.states(input_ids)
        return hidden, self.projected(input_ids, self.final_layer_norm(last))

    def states(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """The states before the last layer and behind it, [B, T, D] each, without the final LayerNorm."""
        embedded = self.embeddings(input_ids)
        mask = causal_mask(input_ids.shape[1], embedded)
        hidden = self.before(inputs_embeds=embedded, attention_mask=mask).last_hidden_state
        return hidden, self.last(inputs_embeds=hidden, attention_mask=mask).last_hidden_state

    def projected(self, input_ids: Tensor, normed: Tensor) -> Tensor:
        """The projection [B, P] of the end token's normed state, of all of them [B, T, D]."""
        end = self.config.eos_token_id
        place = (input_ids if end == OLD_END else (input_ids == end).int()).argmax(dim=-1)
        return self.projection(normed.gather(1, place[:, None, None].expand(-1, 1, normed.shape[2]))[:, 0])


def projected_text_loads(
    settings: Mapping[str, object], tensors: Mapping[str, Tensor], source: str, where: str
) -> tuple[ProjectedText, list[Load]]:
    """The encoder of these settings, its weights unwritten, and what fills it from a file's tensors.

    `source` names the settings in messages, `where` the tensors. Raises CheckpointError for settings of another model.
    """
    model = empty_text_encoder(settings, source)
    config = model.config
    if not isinstance(config.eos_token_id, int):
        raise CheckpointError(
            f"{source}: expected eos_token_id as one id, got {config.eos_token_id!r}; fix: give the folder as it was "
            "published"
        )
    projection = build_module(lambda: nn.Linear(config.hidden_size, config.projection_dim, bias=False), source)
    layout = text_layout(tensors)
    prefix = layout.prefix if layout is not None else ""
    beside = {key: value for key, value in tensors.items() if key == PROJECTION or not key.startswith(prefix)}
    loads = [text_encoder_load(model, tensors, where), Load(projection, beside, where, EXTRAS, {"weight": PROJECTION})]
    return ProjectedText(model, projection).eval(), loads
