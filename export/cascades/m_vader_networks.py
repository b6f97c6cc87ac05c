"""M-VADER's encoder as the runtime calls it: a text's tokens, a picture, and a whole sequence, one graph each."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from x2i.models.m_vader.image_prefix import ImagePrefix
from x2i.models.m_vader.language_model import LanguageModel

from ..to_onnx import Component, Sizes, batched_component


def token_embeddings_component(embeddings: nn.Embedding) -> Component:
    """The graph of the language model's embeddings: input_ids int64 [B, T] to embeds [B, T, D]."""

    def example(sizes: Sizes) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(41)
        size = sizes["batch"], sizes["tokens"]
        return {"input_ids": torch.randint(embeddings.num_embeddings, size, generator=random)}

    return Component(
        name="token_embeddings",
        module=_Embedded(embeddings).eval(),
        example=example,
        outputs=("embeds",),
        free={"input_ids": {0: "batch", 1: "tokens"}},
        trace={"batch": 2, "tokens": 9},
        proof={"batch": 3, "tokens": 5},
    )


def image_prefix_component(prefix: ImagePrefix) -> Component:
    """The graph of a picture's part of the sequence: pixels [B, 3, S, S] to embeds [B, P, D]."""

    def example(sizes: Sizes) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(42)
        return {"pixels": torch.randn(sizes["batch"], 3, prefix.size, prefix.size, generator=random)}

    return batched_component("image_prefix", prefix, example, ("pixels",), ("embeds",))


def language_model_component(model: LanguageModel, examples: Mapping[str, Tensor]) -> Component:
    """The graph of the language model behind its embeddings: embeds [B, L, D] to context [B, L, D].

    Its examples are made of rows that the graphs of texts and of pictures gave, as a sequence is.
    """
    states = _States(model).eval()
    rows = torch.cat([each.flatten(0, 1) for each in examples.values()])

    def example(sizes: Sizes) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(43)
        return {"embeds": rows[torch.randint(len(rows), (sizes["batch"], sizes["positions"]), generator=random)]}

    return Component(
        name="language_model",
        module=states,
        example=example,
        outputs=("context",),
        free={"embeds": {0: "batch", 1: "positions"}},
        trace={"batch": 2, "positions": 9},
        proof={"batch": 3, "positions": 5},
    )


class _Embedded(nn.Module):
    def __init__(self, embeddings: nn.Embedding):
        super().__init__()
        self.embeddings = embeddings

    def forward(self, input_ids: Tensor) -> Tensor:
        out: Tensor = self.embeddings(input_ids)
        return out


class _States(nn.Module):
    """The language model without its embeddings, which have a graph of their own."""

    def __init__(self, model: LanguageModel):
        super().__init__()
        self.model = model

    def forward(self, embeds: Tensor) -> Tensor:
        out: Tensor = self.model(embeds)
        return out
