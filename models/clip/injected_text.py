"""CLIP's text encoder with pictures' words in the place of one of the prompt's tokens."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .learned_words import open_embeddings
from .text_layers import TextLayers, causal_mask

if TYPE_CHECKING:
    from transformers import CLIPTextModel


class InjectedText(nn.Module):
    """`forward(input_ids [B, T], words [B, n, D], word_index int64 [B], learned [B, m, D])` gives the last hidden state
    [B, T, D].

    The words replace the token at `word_index` and move what follows n - 1 places on; what then passes the end is
    lost, and positions are counted after that. An index of T injects nothing. The caller sees to index + n <= T. Ids
    from the vocabulary's size on are rows of `learned`.
    Attention is causal without a padding mask. The prompt leaves out the last `skipped` layers, as in TextLayers.
    Source: ELITE (arXiv 2302.13848) and its reference code.
    """

    def __init__(self, model: "CLIPTextModel", skipped: int = 0):
        super().__init__()
        self.model = getattr(model, "text_model", model)  # transformers before version 5 has a model inside the model
        # In tuples, so that the encoder and its embeddings are registered once, under `model`.
        self._layers = (TextLayers(model, skipped),)
        self._embeddings = (open_embeddings(self.model),)

    def forward(self, input_ids: Tensor, words: Tensor, word_index: Tensor, learned: Tensor | None = None) -> Tensor:
        self._embeddings[0].take(learned)
        embeddings = self.model.embeddings
        window, count = input_ids.shape[1], words.shape[1]
        slots = torch.arange(window, device=input_ids.device)
        offset = slots - word_index.unsqueeze(1)
        kept = torch.where(offset < count, slots, slots - (count - 1))
        tokens = embeddings.token_embedding(input_ids.gather(1, kept.clamp(0, window - 1)))
        chosen = offset.clamp(min=0).minimum(torch.full_like(offset, count - 1))
        placed = words.gather(1, chosen.unsqueeze(-1).expand(-1, -1, words.shape[2]))
        is_word = (offset >= 0) & (offset < count)
        embedded = torch.where(is_word.unsqueeze(-1), placed.to(tokens.dtype), tokens)
        hidden = embedded + embeddings.position_embedding(slots)
        return self._layers[0](hidden, causal_mask(window, hidden))
