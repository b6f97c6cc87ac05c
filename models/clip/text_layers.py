"""The layers of CLIP's text encoder, of which a prompt may leave out the last."""

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import CLIPTextModel


class TextLayers(nn.Module):
    """`forward(embedded [B, T, D], mask [1 or B, 1, T, T])` gives the last state behind the final LayerNorm, [B, T, D].

    The last row, which is the prompt's in every batch, leaves out the last `skipped` layers, fewer than there are; the
    rows before it are the negative prompt's, and leave out none. Source: diffusers' `clip_skip`, which does just so.
    """

    def __init__(self, model: "CLIPTextModel", skipped: int):
        super().__init__()
        inner: Any = getattr(model, "text_model", model)  # transformers before version 5 has a model inside the model
        layers = inner.encoder.layers
        assert 0 <= skipped < len(layers), "a plan that skips every layer"
        self.encoder = inner.encoder if not skipped else encoder_with(inner.encoder, layers[:-skipped])
        self.skipped_encoder = encoder_with(inner.encoder, layers[-skipped:]) if skipped else None
        self.final_layer_norm = inner.final_layer_norm

    def forward(self, embedded: Tensor, mask: Tensor) -> Tensor:
        hidden = self.encoder(inputs_embeds=embedded, attention_mask=mask).last_hidden_state
        if self.skipped_encoder is not None:
            whole = self.skipped_encoder(inputs_embeds=hidden, attention_mask=mask).last_hidden_state
            row = torch.arange(hidden.shape[0], device=hidden.device)
            hidden = torch.where((row == hidden.shape[0] - 1)[:, None, None], hidden, whole)
        return self.final_layer_norm(hidden)


def causal_mask(window: int, like: Tensor) -> Tensor:
    """What is added to attention's scores: [1, 1, window, window], of the dtype and on the device of `like`.

    It is 0 up to the query's own position and -inf beyond it.
    """
    later = torch.full((window, window), float("-inf"), dtype=like.dtype, device=like.device).triu(1)
    return later[None, None]


def encoder_with(encoder: nn.Module, layers: nn.ModuleList) -> nn.Module:
    """The same encoder with other layers; nothing is copied but the reference to them."""
    other = copy.copy(encoder)
    other._modules = dict(encoder._modules)
    other.layers = layers
    return other
