"""Words that were learned from pictures (textual inversion, arXiv 2208.01618): their files, and a text encoder and a
tokenizer that know them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from ..readers.tensors import read_dict
from ..readers.tokenizer_json import to_tokenizer_json
from .published_tokenizer import PublishedTokenizer

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

    @property
    def tokens(self) -> list[str]:
        """The token of each vector. Source: diffusers' `load_textual_inversion`, which names them so."""
        return [self.token, *(f"{self.token}_{number}" for number in range(1, len(self.vectors)))]


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


def with_learned_words(
    model: "CLIPTextModel", tokenizer: PublishedTokenizer, words: Sequence[LearnedWord]
) -> PublishedTokenizer:
    """The tokenizer with the words' tokens; the model, which is changed, has their vectors in its token embeddings.

    Raises CheckpointError, a line for each word of another width, and for each token that the vocabulary has already.
    """
    from tokenizers import AddedToken, Tokenizer

    embeddings = getattr(model, "text_model", model).embeddings  # transformers before version 5: a model inside it
    table = embeddings.token_embedding.weight.detach()
    text = Tokenizer.from_str(tokenizer.json)
    problems = [
        f"{word.source}: expected vectors of the text encoder's width, {table.shape[1]}, got {word.vectors.shape[1]}; "
        "fix: give a word that was learned on this base"
        for word in words
        if word.vectors.shape[1] != table.shape[1]
    ]
    problems += _name_problems(text, words)
    if problems:
        raise CheckpointError(*problems)
    tokens = [token for word in words for token in word.tokens]
    text.add_tokens([AddedToken(token, normalized=True) for token in tokens])
    ids = [number for number in map(text.token_to_id, tokens) if number is not None]
    assert len(ids) == len(tokens), "tokens that were added"
    rows = torch.zeros(max(len(table), *(number + 1 for number in ids)), table.shape[1])
    rows[: len(table)] = table
    rows[ids] = torch.cat([word.vectors for word in words])
    embeddings.token_embedding = nn.Embedding.from_pretrained(rows)
    model.config.vocab_size = len(rows)
    size = max(text.get_vocab().values()) + 1
    return replace(tokenizer, json=to_tokenizer_json(text), size=size)


def _name_problems(tokenizer: Any, words: Sequence[LearnedWord]) -> list[str]:
    """One line for each word whose tokens something else is written with: a piece of the vocabulary, another word, or
    a further vector of one. An added token is found in the text as the tokenizer makes it, lower-cased."""

    def written(token: str) -> str:
        return str(tokenizer.normalizer.normalize_str(token)) if tokenizer.normalizer is not None else token

    taken = {*tokenizer.get_vocab(), *map(written, tokenizer.get_vocab())}
    heads = {token.content for token in tokenizer.get_added_tokens_decoder().values()} | {word.token for word in words}
    problems = []
    for word in words:
        # The name behind the last would be taken for one vector more.
        own = [*word.tokens, f"{word.token}_{len(word.vectors)}"]
        found = next((token for token in own if token in taken or written(token) in taken), None)
        numbered = re.fullmatch(r"(.+)_\d+", word.token)
        if found is None and numbered is not None and numbered[1] in heads:
            found = word.token
        if found is not None:
            problems.append(
                f"embedding:{word.token}: expected a token that nothing else is written with, got {found!r}, which the "
                "vocabulary or another word has already; fix: choose another name"
            )
        taken |= {*own[:-1], *map(written, own[:-1])}
    return problems


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
