"""Prompts to token ids, through a `tokenizer.json`."""

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import msgspec
import numpy as np
import tokenizers

from ..errors import PANICS, InputError, reason
from ..files.reading import is_unicode, parse_json, read_text
from .added_tokens import add_words, word_problems, word_tokens
from .prompts.cleaning import cleaned_prompt

TOKENIZER_BYTES = 200_000_000
"""What a tokenizer.json may have; XLM-R's has 17 MB."""
LETTER = "a"
MOST_GROWTH = 64
"""How much longer replacements may make a text, all together."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """`input_ids` and `attention_mask`, int64 [B, window]; `cut[i]` is the text of prompt i that did not fit ("")."""

    input_ids: np.ndarray
    attention_mask: np.ndarray
    cut: tuple[str, ...]


class Tokenizer:
    """Encodes prompts into a fixed window: special tokens added, cut before the closing one if any, padded behind it.

    `window` counts tokens, `pad_id` fills what is left of it; with `cleans` a prompt is cleaned as CLIP's own code does
    (see `cleaned_prompt`). `added` are the tokens beside the vocabulary's pieces, such as the placeholders of textual
    inversion. Raises InputError for a file that is no tokenizer.
    """

    def __init__(self, path: Path, window: int, pad_id: int, cleans: bool = False):
        text = read_text(path, str(path), "a tokenizer.json", TOKENIZER_BYTES)
        with tokenizers_edge(f"{path}: expected a tokenizer.json"):
            _check_parts(text, path)
            self._tokenizer = tokenizers.Tokenizer.from_str(text)
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
        self._path = path
        self.window, self.pad_id, self._cleans = window, pad_id, cleans
        self.added = frozenset(token.content for token in self._tokenizer.get_added_tokens_decoder().values())
        self._placeholders = _placeholders(self.added)
        self._learned: dict[int, int] = {}
        self._latest: tuple[tuple[object, ...], Tokenizer | None] = ((), None)

    def expanded(self, prompt: str) -> str:
        """The prompt as it is encoded: with `<toy>` as `<toy> <toy>_1 <toy>_2`, where a placeholder of that name has so
        many vectors.

        Source: diffusers' `TextualInversionLoaderMixin.maybe_convert_prompt`.
        """
        prompt = cleaned_prompt(prompt) if self._cleans else prompt
        if not self._placeholders:
            return prompt
        present = set(self._encoded(prompt, add_special_tokens=False).tokens)
        for token in (each for each in self._placeholders if each in present):
            vectors = [token]
            while (following := f"{token}_{len(vectors)}") in self.added:
                vectors.append(following)
            prompt = prompt.replace(token, " ".join(vectors))
        return prompt

    def with_words(self, words: Mapping[str, int], first: int) -> "Tokenizer":
        """A tokenizer that also knows learned words of so many vectors each, whose tokens have the ids from `first` on.

        Raises InputError, a line for each word that something else is written with.
        """
        key = (*words.items(), first)
        latest, made = self._latest
        if made is not None and latest == key:
            return made
        made = copy(self)
        with tokenizers_edge(f"{self._path}: expected a tokenizer that takes further tokens"):
            made._tokenizer = tokenizers.Tokenizer.from_str(self._tokenizer.to_str())
            if problems := word_problems(made._tokenizer, words):
                raise InputError(*problems)
            ids = add_words(made._tokenizer, words)
        made._learned = {number: first + place for place, number in enumerate(ids)}
        made.added = self.added | {token for word, vectors in words.items() for token in word_tokens(word, vectors)}
        made._placeholders = _placeholders(made.added)
        # Of a server's or a batch's calls most bring the same words, and a vocabulary is long.
        self._latest = key, made
        return made

    def ends(self) -> tuple[int, int]:
        """The special tokens that open and close every prompt."""
        ids = self._encoded("").ids
        if len(ids) != 2:
            raise InputError(
                f"{self._path}: expected a tokenizer that opens and closes a prompt with a token each, got {len(ids)} "
                "tokens around nothing; export the bundle again"
            )
        return ids[0], ids[1]

    def around(self) -> tuple[list[int], list[int]]:
        """The special tokens that open every prompt, and those that close it: of CLIP's one each, of T5's no opening.

        Raises InputError for a tokenizer that has no token for a letter, which would tell them apart.
        """
        encoding = self._encoded(LETTER)
        special = encoding.special_tokens_mask
        if 0 not in special:
            raise InputError(
                f"{self._path}: expected a tokenizer with a token for {LETTER!r}, got none; export the bundle again"
            )
        opening, closing = special.index(0), special[::-1].index(0)
        return encoding.ids[:opening], encoding.ids[len(special) - closing :]

    def pieces(self, text: str) -> list[int]:
        """The ids of a part of a prompt, however many, without the special tokens around it."""
        return self.encoded(text)[1]

    def encoded(self, text: str) -> tuple[str, list[int], list[tuple[int, int]]]:
        """A part of a prompt, expanded; its ids, however many, without the special tokens around it; and begin and end
        of each in the expanded text."""
        text = self.expanded(text)
        encoding = self._encoded(text, add_special_tokens=False)
        return text, self._ids(encoding), encoding.offsets

    def spans(self, prompt: str) -> list[tuple[int, int]]:
        """Begin and end in an expanded prompt of each of its tokens, before any is cut; special tokens added have
        (0, 0)."""
        return self._encoded(prompt).offsets

    def _encoded(self, text: str, **options: bool) -> tokenizers.Encoding:
        with tokenizers_edge(f"{self._path}: expected a tokenizer that reads every prompt"):
            return self._tokenizer.encode(text, **options)

    def __call__(self, prompts: list[str]) -> Tokens:
        """The ids of B prompts, each in a window of its own."""
        ids = np.full((len(prompts), self.window), self.pad_id, np.int64)
        mask = np.zeros((len(prompts), self.window), np.int64)
        cut = []
        for row, prompt in enumerate(map(self.expanded, prompts)):
            encoding = self._encoded(prompt)
            kept, rest = self._fit(encoding, prompt)
            ids[row, : len(kept)], mask[row, : len(kept)] = kept, 1
            cut.append(rest)
        return Tokens(ids, mask, tuple(cut))

    def _ids(self, encoding: tokenizers.Encoding) -> list[int]:
        """The ids as the graphs know them: learned words have rows of their own."""
        return [self._learned.get(number, number) for number in encoding.ids] if self._learned else encoding.ids

    def _fit(self, encoding: tokenizers.Encoding, prompt: str) -> tuple[list[int], str]:
        """The ids that fit the window, still closed by the special token where one closes all, and the text that was
        cut."""
        ids = self._ids(encoding)
        if len(ids) <= self.window:
            return ids, ""
        closing = ids[-1:] if encoding.special_tokens_mask[-1] else []
        kept = self.window - len(closing)
        return [*ids[:kept], *closing], prompt[encoding.offsets[kept][0] :].strip()


def _placeholders(added: Collection[str]) -> list[str]:
    """Those tokens that stand for several."""
    return sorted(token for token in added if f"{token}_1" in added)


class _TokenizerFile(msgspec.Struct):
    """What is looked at before the library reads a file."""

    normalizer: msgspec.Raw = msgspec.Raw(b"null")
    post_processor: msgspec.Raw = msgspec.Raw(b"null")


def _check_parts(text: str, path: Path) -> None:
    """Raises InputError for replacements that blow a prompt up until it fills the memory, and for a template with
    tokens that it does not explain, at which the library gives up."""
    read = msgspec.json.decode(text, type=_TokenizerFile)
    growth = _growth(parse_json(bytes(read.normalizer).decode(), f"{path}: normalizer"))
    if growth > MOST_GROWTH:
        raise InputError(
            f"{path}: expected a tokenizer that makes a text at most {MOST_GROWTH} times as long, got replacements "
            f"that make it {growth:.3g} times as long; export the bundle again"
        )

    unknown = sorted(_unexplained(parse_json(bytes(read.post_processor).decode(), f"{path}: post_processor")))
    if unknown:
        raise InputError(
            f"{path}: expected a template of its own special tokens, got {', '.join(map(repr, unknown))}; export the "
            "bundle again"
        )


def _unexplained(processor: Any) -> set[str]:
    """The special tokens that a post-processor's templates name and do not define."""
    if not isinstance(processor, dict):
        return set()
    inside = processor.get("processors")
    if isinstance(inside, list):
        return set().union(*map(_unexplained, inside))
    pieces = [
        piece for side in ("single", "pair") if isinstance(processor.get(side), list) for piece in processor[side]
    ]
    tokens = [piece["SpecialToken"] for piece in pieces if isinstance(piece, dict) and "SpecialToken" in piece]
    named = {str(token.get("id")) for token in tokens if isinstance(token, dict)}
    defined = processor.get("special_tokens")
    return named - (defined.keys() if isinstance(defined, dict) else set())


def _growth(normalizer: Any) -> float:
    """Into how many characters one may turn: replacements in a row multiply."""
    if not isinstance(normalizer, dict):
        return 1
    inside = normalizer.get("normalizers")
    if isinstance(inside, list):
        return min(math.prod(map(_growth, inside)), 1e300)
    content = normalizer.get("content")
    return max(1, len(content)) if isinstance(content, str) else 1


@contextmanager
def tokenizers_edge(expected: str) -> Iterator[None]:
    """The edge of the library, which raises bare Exception and nothing narrower, and where Rust gives up a
    BaseException of its own."""
    try:
        yield
    except InputError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__module__ != PANICS:
            raise
        raise InputError(f"{expected}, got {reason(error)}; export the bundle again") from error


def is_text(value: object) -> TypeGuard[str]:
    """Whether a tokenizer takes it: half a surrogate, as from a terminal in another encoding, is no Unicode."""
    return isinstance(value, str) and is_unicode(value)
