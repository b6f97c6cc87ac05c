"""Tokens for learned words (textual inversion, arXiv 2208.01618): which a tokenizer gets, and which it may not get."""

import re
from collections.abc import Mapping

import tokenizers


def word_tokens(word: str, vectors: int) -> list[str]:
    """The token of each vector of a word. Source: diffusers' `load_textual_inversion`, which names them so."""
    return [word, *(f"{word}_{number}" for number in range(1, vectors))]


def add_words(tokenizer: tokenizers.Tokenizer, words: Mapping[str, int]) -> list[int]:
    """Adds the tokens of words with so many vectors each, as diffusers adds them; returns the ids in their order."""
    tokens = [token for word, vectors in words.items() for token in word_tokens(word, vectors)]
    tokenizer.add_tokens([tokenizers.AddedToken(token, normalized=True) for token in tokens])
    ids = [number for number in map(tokenizer.token_to_id, tokens) if number is not None]
    assert len(ids) == len(tokens), "tokens that were added"
    return ids


def word_problems(tokenizer: tokenizers.Tokenizer, words: Mapping[str, int]) -> list[str]:
    """One line for each word whose tokens something else is written with: a piece of the vocabulary, another word, or
    a further vector of one. An added token is found in the text as the tokenizer makes it, for one lower-cased."""

    def written(token: str) -> str:
        return str(tokenizer.normalizer.normalize_str(token)) if tokenizer.normalizer is not None else token

    vocabulary = tokenizer.get_vocab()
    taken = {*vocabulary, *map(written, vocabulary)} if words else set()
    heads = {token.content for token in tokenizer.get_added_tokens_decoder().values()} | words.keys()
    problems = []
    for word, vectors in words.items():
        # The name behind the last would be taken for one vector more.
        own = word_tokens(word, vectors + 1)
        found = next((token for token in own if token in taken or written(token) in taken), None)
        numbered = re.fullmatch(r"(.+)_\d+", word)
        if found is None and numbered is not None and numbered[1] in heads:
            found = word
        if found is not None:
            problems.append(
                f"embedding {word}: expected a token that nothing else is written with, got {found!r}, which the "
                "vocabulary or another word has already; choose another name"
            )
        taken |= {*own[:-1], *map(written, own[:-1])}
    return problems
