"""The networks of an ensemble of experts beside the experts themselves: encoders, and the context of their states."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from x2i.models.ediff_i.ensemble import SecondText

from ..components.text import prompt_ids
from ..to_onnx import Component, Sizes, batched_component

if TYPE_CHECKING:
    from transformers import CLIPTextModel, PreTrainedModel


LEAST_NORM = 1e-4
"""Of a picture's embedding, whose norm is about 10: where none is given, zeros stay zeros in float16, too."""


class _ClipStates(nn.Module):
    """`forward(input_ids [B, T])` returns CLIP's last states behind the final LayerNorm [B, T, D], and the end token's
    [B, D]. Padding is not masked."""

    def __init__(self, text: "CLIPTextModel"):
        super().__init__()
        self.text = text

    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        made = self.text(input_ids=input_ids)
        return made.last_hidden_state, made.pooler_output


class _T5States(nn.Module):
    """`forward(input_ids [B, T], attention_mask int64 [B, T])` returns T5's last states [B, T, D], zeros where the
    padding is, which no token reads."""

    def __init__(self, encoder: "PreTrainedModel"):
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return states * attention_mask[..., None].to(states.dtype)


class ComposedContext(nn.Module):
    """`forward(kept [B, n], clip_states [B, T, D], clip_pooled [B, D], ...)` returns the context [B, L, C], and with a
    `vector` what is added to the time's embedding [B, vector].

    `names` are the n conditions in the order of their tokens; behind the first two stand `t5_states` [B, S, D5] and
    `style_embedding` [B, E] of those that there are. A condition that is not kept counts as zeros, of which its
    projection makes its bias. A picture's embedding is divided by its norm. Assumed, as eDiff-I was never released.
    """

    def __init__(self, names: Sequence[str], projections: Mapping[str, nn.Linear], vector: int | None):
        super().__init__()
        self.names, self.vector = tuple(names), vector
        self.projections = nn.ModuleList([projections.get(name, nn.Identity()) for name in names])

    def forward(self, kept: Tensor, clip_states: Tensor, clip_pooled: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        states, pooled = [clip_states, *others], [clip_pooled * kept[:, :1]]
        if self.names[-1] == "clip-image":
            unit = F.normalize(states.pop(), dim=-1, eps=LEAST_NORM)
            states.append(unit[:, None])
            pooled.append(unit * kept[:, -1:])
        parts = [
            projection(part * kept[:, number, None, None])
            for number, (projection, part) in enumerate(zip(self.projections, states, strict=True))
        ]
        context = torch.cat(parts, dim=1)
        if self.vector is None:
            return (context,)
        added = torch.cat(pooled, dim=1)
        return context, F.pad(added, (0, self.vector - added.shape[1]))


def clip_states_component(text: "CLIPTextModel", tokens: int) -> Component:
    """The text encoder's graph: input_ids int64 [B, tokens] to clip_states [B, tokens, D] and clip_pooled [B, D]."""

    def example(sizes: Sizes) -> dict[str, Tensor]:
        end = text.config.eos_token_id
        # Of an older configuration the end token is the one of the largest id.
        end = text.config.vocab_size - 1 if end == 2 else end
        return {"input_ids": prompt_ids(sizes["batch"], tokens, text.config.vocab_size, end)}

    return batched_component("text_encoder", _ClipStates(text), example, ("input_ids",), ("clip_states", "clip_pooled"))


def t5_states_component(t5: SecondText) -> Component:
    """T5's graph: input_ids and attention_mask int64 [B, S] to t5_states [B, S, D5]."""
    encoder = t5.encoder

    def example(sizes: Sizes) -> dict[str, Tensor]:
        ids = prompt_ids(sizes["batch"], t5.window, encoder.vocabulary, encoder.pad_id)
        return {"input_ids": ids, "attention_mask": (ids != encoder.pad_id).long()}

    return batched_component("t5_encoder", _T5States(encoder.model), example, encoder.inputs, ("t5_states",))


def composed_context_component(module: ComposedContext, shapes: Mapping[str, tuple[int, ...]]) -> Component:
    """The context's graph; `shapes` are those of a row of each input behind `kept`."""

    def example(sizes: Sizes) -> dict[str, Tensor]:
        batch, random = sizes["batch"], torch.Generator().manual_seed(35)
        kept = torch.rand(batch, len(module.names), generator=random).round()
        kept[-1] = 1
        return {"kept": kept} | {name: torch.randn(batch, *shape, generator=random) for name, shape in shapes.items()}

    outputs = ("context",) if module.vector is None else ("context", "added")
    return batched_component("context", module, example, ("kept", *shapes), outputs)
