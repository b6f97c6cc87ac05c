"""Text encoders and translators as the conditioners call them."""

import torch
from torch import Tensor, nn
from transformers import CLIPTextModel
from x2i.models.clip.injected_text import InjectedText
from x2i.models.clip.learned_words import open_embeddings
from x2i.models.clip.text_layers import TextLayers, causal_mask
from x2i.models.text_encoders.prompt_encoder import PromptEncoder
from x2i.models.translators.gluenet import GlueNetConditioner

from ..lora.target import module_target
from ..to_onnx import Component, Sizes, batched_component


class ClipContext(nn.Module):
    """`forward(input_ids [B, T], learned [B, n, D])` returns CLIP's last hidden state behind its final LayerNorm,
    [B, T, D], without a mask, as Stable Diffusion runs it; the ids from the vocabulary's size on are learned rows.

    With `attention_mask` [B, T] behind them no token reads the padding, whose places are 0. The prompt's row, the last,
    leaves out the last `skipped` layers, as in TextLayers.
    """

    def __init__(self, model: CLIPTextModel, skipped: int = 0):
        super().__init__()
        self.model = model
        # In tuples, so that the encoder and its embeddings are registered once, under `model`.
        self._embeddings = (open_embeddings(model),)
        self._layers = (TextLayers(model, skipped),) if skipped else ()

    def forward(self, input_ids: Tensor, learned: Tensor | None = None, attention_mask: Tensor | None = None) -> Tensor:
        self._embeddings[0].take(learned)
        if not self._layers:
            return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        embedded = getattr(self.model, "text_model", self.model).embeddings(input_ids)
        mask = causal_mask(input_ids.shape[1], embedded)
        if attention_mask is not None:
            mask = mask.masked_fill(attention_mask[:, None, None] == 0, float("-inf"))
        return self._layers[0](embedded, mask)


class UnitContext(nn.Module):
    """`forward(input_ids [B, T])` returns CLIP's last hidden state, each vector divided by its norm, [B, T, D].

    No token is masked: the padding is read as the token that its id stands for. With vectors [T, D] of training for no
    text it reads `is_null`, bool [B], behind the ids, and rows where it is true are those vectors as they are. Source:
    VQ-Diffusion's CLIPTextEmbedding; the vectors are Improved VQ-Diffusion's (arXiv 2205.16007).
    """

    null_text: Tensor | None

    def __init__(self, model: CLIPTextModel, null_text: Tensor | None = None):
        super().__init__()
        self.model = model
        self.register_buffer("null_text", null_text)

    def forward(self, input_ids: Tensor, is_null: Tensor | None = None) -> Tensor:
        features = self.model(input_ids=input_ids).last_hidden_state
        context = features / features.norm(dim=-1, keepdim=True)
        if is_null is None or self.null_text is None:
            return context
        return torch.where(is_null[:, None, None], self.null_text, context)


class PromptFeatures(nn.Module):
    """`forward(input_ids [B, T], attention_mask [B, T])` returns an encoder's last hidden state, [B, T, D]: what no
    token reads, the places of the padding have a state of their own all the same. An encoder without a mask reads none.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def clip_component(model: CLIPTextModel, tokens: int, masks: bool = False, skipped: int = 0) -> Component:
    """The CLIP text encoder's graph: input_ids int64 [B, tokens] and learned float32 [B, n, D], whose rows are the ids
    from the vocabulary's size on, to context float32 [B, tokens, D]; B and n are free.

    With `masks` it also reads `attention_mask`, int64 [B, tokens], 1 for a prompt's tokens and 0 for the padding. The
    last row leaves out the last `skipped` layers.
    """
    pad = model.config.vocab_size - 1

    def example(sizes: Sizes) -> dict[str, Tensor]:
        inputs = _learned_example(model, tokens, sizes, pad)
        return inputs | ({"attention_mask": (inputs["input_ids"] != pad).long()} if masks else {})

    return Component(
        name="text_encoder",
        module=ClipContext(model, skipped).eval(),
        example=example,
        outputs=("context",),
        free={"input_ids": {0: "batch"}, "learned": {0: "batch", 1: "learned"}}
        | ({"attention_mask": {0: "batch"}} if masks else {}),
        trace={"batch": 2, "learned": 3},
        proof={"batch": 3, "learned": 4},
        lora=module_target("text_encoder", model),
    )


def _learned_example(model: nn.Module, tokens: int, sizes: Sizes, pad: int) -> dict[str, Tensor]:
    """Prompts with one learned token each, and the rows of all."""
    embeddings, batch, count = open_embeddings(model), sizes["batch"], sizes["learned"]
    random, size = torch.Generator().manual_seed(12), embeddings.num_embeddings
    ids = prompt_ids(batch, tokens, size, pad)
    ids[:, 1] = size + torch.arange(batch) % count
    scale = embeddings.weight.detach().std()
    return {
        "input_ids": ids,
        "learned": torch.randn(batch, count, embeddings.embedding_dim, generator=random) * scale,
    }


def unit_context_component(model: CLIPTextModel, tokens: int, null_text: Tensor | None = None) -> Component:
    """The graph of a UnitContext: input_ids int64 [B, tokens], padded with 0, and with `null_text` is_null bool [B], to
    context float32 [B, tokens, D]; B is free."""

    def example(sizes: Sizes) -> dict[str, Tensor]:
        batch = sizes["batch"]
        ids = {"input_ids": prompt_ids(batch, tokens, model.config.vocab_size, pad=0)}
        return ids | ({} if null_text is None else {"is_null": torch.arange(batch) == 1})

    inputs = ("input_ids",) if null_text is None else ("input_ids", "is_null")
    return batched_component("text_encoder", UnitContext(model, null_text), example, inputs, ("context",))


def injected_text_component(model: InjectedText, tokens: int) -> Component:
    """The CLIP text encoder's graph with room for a subject's words and for learned ones; their numbers are free."""
    config = model.model.config

    def example(sizes: Sizes) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(9)
        batch, words = sizes["batch"], sizes["words"]
        learned = _learned_example(model.model, tokens, sizes, config.vocab_size - 1)
        return {
            "input_ids": learned["input_ids"],
            "words": torch.randn(batch, words, config.hidden_size, generator=random),
            "word_index": torch.tensor([tokens, 0, tokens - words])[:batch],
            "learned": learned["learned"],
        }

    return Component(
        name="text_encoder",
        module=model.eval(),
        example=example,
        outputs=("context",),
        free={
            "input_ids": {0: "batch"},
            "words": {0: "batch", 1: "words"},
            "word_index": {0: "batch"},
            "learned": {0: "batch", 1: "learned"},
        },
        trace={"batch": 2, "words": 3, "learned": 5},
        proof={"batch": 3, "words": 2, "learned": 4},
        lora=module_target("text_encoder", model.model),
    )


def prompt_encoder_component(encoder: PromptEncoder, tokens: int) -> Component:
    """The encoder's graph, which all translators share: ids and, where it masks the padding, mask int64 [B, tokens] to
    features float32 [B, tokens, D]; B is free."""

    def example(sizes: Sizes) -> dict[str, Tensor]:
        ids = prompt_ids(sizes["batch"], tokens, encoder.vocabulary, encoder.pad_id)
        return {"input_ids": ids} | ({"attention_mask": (ids != encoder.pad_id).long()} if encoder.masks else {})

    return batched_component("encoder", PromptFeatures(encoder.model), example, encoder.inputs, ("features",))


def translator_component(language: str, conditioner: GlueNetConditioner, tokens: int, width: int) -> Component:
    """One language's or encoder's translator, its `/ 3` and `tensor_norm / 2` inside the graph."""

    def example(sizes: Sizes) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(3)
        return {"features": torch.randn(sizes["batch"], tokens, width, generator=random)}

    return batched_component(f"translator.{language}", conditioner, example, ("features",), ("context",))


def prompt_ids(batch: int, tokens: int, vocabulary: int, pad: int) -> Tensor:
    """Ids like those of prompts of different lengths: the first fills the window, the others are padded."""
    random = torch.Generator().manual_seed(4)
    ids = torch.randint(4, vocabulary - 2, (batch, tokens), generator=random)
    for row in range(1, batch):
        ids[row, tokens // (row + 1) :] = pad
    return ids
