"""Words that were learned from pictures (textual inversion, arXiv 2208.01618): their files, and token embeddings with
rows for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from ..readers.tensors import read_dict

if TYPE_CHECKING:
    from transformers import CLIPTextModel


MOST_VECTORS = 75
"""Of one word: more than a window of CLIP's holds nobody can write."""
OLD_PARAMETERS, PARAMETERS = "string_to_param", "emb_params"
"""The keys of AUTOMATIC1111's files: pickled ones hold a dict under the first, safetensors a tensor under the other."""
_FIX = "fix: give the file as its training wrote it, learned_embeds.safetensors for one"


@dataclass(frozen=True, slots=True)
class LearnedWord:
    """`vectors`, float32 [n, D], are the embeddings of the tokens that `token` stands for; `source` is their file."""

    token: str
    vectors: Tensor
    source: str


def read_learned_word(path: str | Path, token: str) -> LearnedWord:
    """A word from a file of diffusers (one tensor under any name) or of AUTOMATIC1111, [D] or [n, D] of any floating
    dtype. The name in the file is left aside, as diffusers does where it is given a token.

    Raises CheckpointError for a pickle that is more than numbers, for another format, with its keys, for what is no
    vector, and for NaN.
    """
    vectors = _found(read_dict(path), str(path))
    if not isinstance(vectors, Tensor) or not vectors.is_floating_point() or vectors.ndim not in (1, 2):
        raise CheckpointError(f"{path}: expected float vectors [D] or [n, D], got {_described(vectors)}; {_FIX}")
    vectors = vectors.detach().float().reshape(-1, vectors.shape[-1])
    if not vectors.numel() or len(vectors) > MOST_VECTORS:
        raise CheckpointError(f"{path}: expected 1 to {MOST_VECTORS} vectors, got {list(vectors.shape)}; {_FIX}")
    if not torch.isfinite(vectors).all():
        raise CheckpointError(f"{path}: expected finite numbers, got NaN or infinite ones; fix: train the word again")
    return LearnedWord(token, vectors, str(path))


def add_rows(model: "CLIPTextModel", ids: Sequence[int], words: Sequence[LearnedWord]) -> None:
    """Writes the words' vectors, one behind the other, into the rows `ids` of the model's token embeddings, which grow
    where they have fewer rows. Raises CheckpointError, a line for each word of another width."""
    embeddings = getattr(model, "text_model", model).embeddings  # transformers before version 5: a model inside it
    table = embeddings.token_embedding.weight.detach()
    problems = [
        f"{word.source}: expected vectors of the text encoder's width, {table.shape[1]}, got {word.vectors.shape[1]}; "
        "fix: give a word that was learned on this base"
        for word in words
        if word.vectors.shape[1] != table.shape[1]
    ]
    if problems:
        raise CheckpointError(*problems)
    rows = torch.zeros(max(len(table), *(number + 1 for number in ids)), table.shape[1])
    rows[: len(table)] = table
    rows[list(ids)] = torch.cat([word.vectors for word in words])
    embeddings.token_embedding = nn.Embedding.from_pretrained(rows)
    model.config.vocab_size = len(rows)


class OpenEmbedding(nn.Embedding):
    """Token embeddings [V, D] with further rows that each call brings: `take(learned [B, n, D])` before
    `forward(input_ids [B, T])`, in which the id V + k is row k of its sample's. The caller sees to k < n."""

    def __init__(self, weight: nn.Parameter):
        super().__init__(weight.shape[0], weight.shape[1], _weight=weight)
        self.weight = weight
        self._learned: tuple[Tensor, ...] = ()

    def take(self, learned: Tensor | None) -> None:
        """Keeps the further rows for the coming call; None are none."""
        self._learned = () if learned is None else (learned,)

    def forward(self, input: Tensor) -> Tensor:
        if not self._learned:
            return super().forward(input)
        (learned,) = self._learned
        known = super().forward(input.clamp(max=self.num_embeddings - 1))
        place = (input - self.num_embeddings).clamp(min=0).unsqueeze(-1).expand(-1, -1, self.embedding_dim)
        return torch.where((input < self.num_embeddings).unsqueeze(-1), known, learned.gather(1, place))


def open_embeddings(model: nn.Module) -> OpenEmbedding:
    """The token embeddings of a CLIP's text model, which become open ones of the very same weights."""
    embeddings: Any = getattr(model, "text_model", model).embeddings
    if not isinstance(embeddings.token_embedding, OpenEmbedding):
        embeddings.token_embedding = OpenEmbedding(embeddings.token_embedding.weight)
    opened: OpenEmbedding = embeddings.token_embedding
    return opened


def _found(content: Mapping[str, Any], path: str) -> Any:
    """The vectors among what a file holds."""
    section = content.get(OLD_PARAMETERS)
    if isinstance(section, Mapping) and len(section) == 1:
        return next(iter(section.values()))
    if PARAMETERS in content:
        return content[PARAMETERS]
    if len(content) == 1:
        return next(iter(content.values()))
    keys = ", ".join(map(str, list(content)[:8])) or "none"
    raise CheckpointError(
        f"{path}: expected one tensor, {OLD_PARAMETERS} with one, or {PARAMETERS}, got the keys {keys}; {_FIX}"
    )


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return f"a value of type {type(value).__name__}"
