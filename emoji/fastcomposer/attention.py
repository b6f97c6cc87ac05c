"""FastComposer's localised cross-attention: while training, each subject's word is to look at that subject alone."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor
from torch import Tensor
from torch.nn import functional as F
from x2i.models.context_attention import cross_attention_layers

TINY = 1e-5


class SeenAttention:
    """An attention processor that computes step by step and keeps the probabilities, [B, heads, queries, keys]."""

    def __init__(self) -> None:
        self.seen = torch.empty(0)

    def __call__(self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor, **unused: Any) -> Tensor:
        query, key, value = (
            linear(features).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for linear, features in (
                (attn.to_q, hidden_states),
                (attn.to_k, encoder_hidden_states),
                (attn.to_v, encoder_hidden_states),
            )
        )
        self.seen = (query @ key.mT * attn.scale).softmax(-1)
        return attn.to_out[0]((self.seen.to(value.dtype) @ value).transpose(1, 2).flatten(2))


def watch(denoiser: UNet2DConditionModel) -> dict[str, SeenAttention]:
    """Keeps what the cross-attention layers attend to, by their paths; self-attention becomes plain steps as well,
    whose backward pass is quicker on CPUs."""
    for path, module in denoiser.named_modules():
        if path.endswith("attn1"):
            module.set_processor(AttnProcessor())
    layers = cross_attention_layers(denoiser)
    watched = {path: SeenAttention() for path in layers}
    for path, layer in layers.items():
        layer.set_processor(watched[path])
    return watched


def misplaced(watched: Mapping[str, SeenAttention], index: Tensor, masks: Tensor) -> Tensor:
    """How much more the subjects' words are attended to outside their masks than inside, averaged over layers.

    index int64 [B, T]: the object at each token, -1 for none. masks [B, n, 64, 64]: each object's, 0 to 1. For every
    layer, head and subject: the mean probability of the subject's token outside its mask minus that inside.
    Source: FastComposer (arXiv 2305.10431), section 4.2.
    """
    rows, tokens = (index >= 0).nonzero(as_tuple=True)
    wanted = masks[rows, index[rows, tokens]].unsqueeze(1)
    errors = []
    for layer in watched.values():
        columns = layer.seen[rows, :, :, tokens].float()  # [subjects, heads, queries]
        inside = F.adaptive_avg_pool2d(wanted, math.isqrt(columns.shape[-1])).flatten(2)
        outside = 1 - inside
        error = (columns * outside).sum(-1) / (outside.sum(-1) + TINY) - (columns * inside).sum(-1) / (
            inside.sum(-1) + TINY
        )
        errors.append(error.mean())
    return torch.stack(errors).mean()
