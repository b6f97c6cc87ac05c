"""Words that a call brings (textual inversion, arXiv 2208.01618): their files, and the rows that the text encoder reads
beside its own."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypedDict

import numpy as np

from ...bundle.records import Count
from ...errors import InputError, one_line
from ...files.safetensors import read_safetensors
from ..option import CallContext, CallShape, Option, PreparedInputs, Shape, options_of, short

MOST_VECTORS = 75
"""Of one word: more than a window of CLIP's holds nobody can write."""
WORD_BYTES = 16_000_000
"""Of a word's file; 75 vectors of 1024 in float32 have 0.3 MB."""
WORD_NAME = r"[\w-]+|<[\w-]+>"
"""What a word may be called: many are written in angle brackets."""
PARAMETERS = "emb_params"
"""The key of AUTOMATIC1111's safetensors files."""
EmbeddingSource = str | Sequence[str] | Mapping[str, str | os.PathLike[str]]
"""NAME=PATH, several of them, or paths by name."""


def embedding_path(text: str) -> Path:
    """The file in NAME=PATH."""
    return Path(text.partition("=")[2])


class EmbeddingOptions(TypedDict, total=False):
    """Words that a prompt writes and the vocabulary lacks."""

    embedding: Annotated[
        EmbeddingSource | None,
        Option(
            "weights",
            "NAME=FILE: a learned word (textual inversion, .safetensors), which the prompt writes as NAME.",
            several=True,
            stored=False,
            locate=embedding_path,
            absent="leave it out, or export a base whose prompts CLIP reads again with this x2i",
        ),
    ]


@dataclass(frozen=True, slots=True)
class LearnedInput:
    """How learned words become the slot `learned`, float32 [1, n, width]: their vectors one behind the other, or one
    row of zeros where the call brings none. Their tokens have the ids from `vocabulary` on.
    """

    KEY: ClassVar[str] = "learned"
    OPTIONS: ClassVar[tuple[Option, ...]] = options_of(EmbeddingOptions)

    vocabulary: Count
    width: Count

    def slots(self) -> tuple[str, ...]:
        return ("learned",)

    def describe(self) -> str:
        return f"learned words of vectors of {self.width}"

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        """Fills the slot; the tokenizer of the call gets the words."""
        made.slots["learned"] = np.zeros((1, 1, self.width), np.float32)
        files = named_files(call.values["embedding"])
        if not files:
            return
        found, problems = dict[str, np.ndarray](), list[str]()
        for name, path in files:
            try:
                found[name] = read_vectors(path, name, self.width)
            except InputError as error:
                problems += error.problems
        if problems:
            raise InputError(*problems)
        assert call.tokenizer is not None, "words without a prompt to stand in"
        made.tokenizer = call.tokenizer.with_words({name: len(rows) for name, rows in found.items()}, self.vocabulary)
        made.slots["learned"] = np.concatenate(list(found.values()))[None]

    def stand_in(self) -> dict[str, Any]:
        return {}

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        return {"learned": (1, call.learned, self.width)}


def named_files(given: Any) -> list[tuple[str, Path]]:
    """The words' names and files of an option's value, which may be anything. Raises InputError."""
    expected = "embedding: expected NAME=FILE, a list of such, or paths by name"
    pairs: Iterable[tuple[Any, Any]]
    if given is None:
        return []
    if isinstance(given, Mapping):
        pairs = given.items()
    else:
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list | tuple) or not all(isinstance(text, str) and "=" in text for text in texts):
            raise InputError(f"{expected}, got {short(given)}; write cat-toy=learned_embeds.safetensors")
        pairs = [(text.partition("=")[0], text.partition("=")[2]) for text in texts]
    found = list(pairs)
    problems = [
        f"embedding: expected a name of letters, digits, _ and -, with or without angle brackets, got {short(name)}; "
        "choose one such as cat-toy"
        for name, _ in found
        if not isinstance(name, str) or re.fullmatch(WORD_NAME, name) is None
    ]
    problems += [
        f"{expected}, got {short(path)} as the file of {short(name)}"
        for name, path in found
        if not isinstance(path, str | os.PathLike) or not os.fspath(path)
    ]
    names = [name for name, _ in found if isinstance(name, str)]
    problems += [
        f"embedding: expected each word once, got {name} {names.count(name)} times; leave the others out"
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    if problems:
        raise InputError(*problems)
    return [(name, Path(path)) for name, path in found]


def read_vectors(path: Path, name: str, width: int) -> np.ndarray:
    """float32 [n, width] of a word's file: diffusers' with one tensor of any name, or AUTOMATIC1111's.

    Raises InputError for another format, with its keys, for another width, and for what is no vector of numbers.
    """
    where = f"embedding {name}"
    if path.suffix != ".safetensors":
        raise InputError(
            f"{where}: expected a .safetensors file, got {short(str(path))}; a pickle can run code: convert it, or "
            "give it to x2i export, which reads it guarded"
        )
    tensors = read_safetensors(path, f"{where} {path}", "a .safetensors file", WORD_BYTES).tensors
    if PARAMETERS not in tensors and len(tensors) != 1:
        keys = one_line(", ".join(list(tensors)[:8]) or "none", 200)
        raise InputError(
            f"{where}: expected one tensor, or {PARAMETERS}, got the keys {keys}; give the file as its training wrote "
            "it"
        )
    rows = tensors[PARAMETERS] if PARAMETERS in tensors else next(iter(tensors.values()))
    if rows.ndim not in (1, 2) or rows.shape[-1] != width:
        raise InputError(
            f"{where}: expected vectors of the text encoder's width, [{width}] or [n, {width}], got "
            f"{list(rows.shape)}; give a word that was learned on this base"
        )
    rows = rows.reshape(-1, width)
    if len(rows) > MOST_VECTORS:
        raise InputError(f"{where}: expected up to {MOST_VECTORS} vectors, got {len(rows)}; give a shorter word")
    if not np.isfinite(rows).all():
        raise InputError(f"{where}: expected finite numbers, got NaN or infinite ones; train the word again")
    return rows
