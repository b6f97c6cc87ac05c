"""The pieces of a byte-pair tokenizer and their merges, as folders hold them: CLIP's and GPT-2's."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from .given_files import given_text
from .tokenizer_json import missing_files
from .weights_folder import read_json

MOST_IDS = 2**24
"""The library makes room for every id up to the largest; vocabularies have a million at most."""


@dataclass(frozen=True, slots=True)
class BytePairs:
    """`vocab` maps a piece to its id, `merges` are in their order of rank; `added` are the JSON objects of the tokens
    that a tokenizer.json adds, with their ids."""

    vocab: dict[str, int]
    merges: list[tuple[str, str]]
    added: list[tuple[int, Mapping[str, Any]]]


def read_byte_pairs(folder: Path, saved: Path) -> BytePairs:
    """Those of the tokenizer.json `saved`, or else of the folder's vocab.json and merges.txt.

    Raises CheckpointError where neither is there, for another kind of tokenizer, and for pieces that are none.
    """
    if saved.is_file():
        content = read_json(saved)
        model = content.get("model")
        vocab = model.get("vocab") if isinstance(model, Mapping) else None
        if not isinstance(model, Mapping) or not isinstance(vocab, dict) or model.get("type", "BPE") != "BPE":
            raise CheckpointError(
                f"{saved}: expected byte pairs (a model of type BPE with its vocab), got another tokenizer; fix: give "
                "the one that the checkpoint was trained with"
            )
        listed = content.get("added_tokens") or []
        lines = [each if isinstance(each, str) else " ".join(map(str, each)) for each in model.get("merges") or []]
        numbered = [(each.get("id"), each) for each in listed if isinstance(each, Mapping)]
        added = [(number, each) for number, each in numbered if isinstance(number, int)]
        return BytePairs(_vocabulary(vocab, saved), merge_pairs(lines, saved), added)
    vocab_file, merges_file = folder / "vocab.json", folder / "merges.txt"
    if not (vocab_file.is_file() and merges_file.is_file()):
        raise missing_files(folder, "tokenizer.json", "vocab.json with merges.txt")
    text = given_text(merges_file, "text")
    lines = [line for line in text.splitlines() if line and not line.startswith("#version")]
    return BytePairs(_vocabulary(read_json(vocab_file), vocab_file), merge_pairs(lines, merges_file), [])


def unknown_pieces(vocab: Mapping[str, object], merges: Iterable[tuple[str, str]], besides: Iterable[str]) -> list[str]:
    """What the vocabulary has no id for: of the merges' pieces, and of those `besides`."""
    pieces = {piece for pair in merges for piece in (*pair, "".join(pair))} | set(besides)
    return sorted(piece for piece in pieces if not isinstance(vocab.get(piece), int))


def is_piece(value: str) -> bool:
    """Whether a text can be one: half a surrogate cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


def merge_pairs(lines: Iterable[str], path: Path) -> list[tuple[str, str]]:
    """The two pieces of each line of the file at `path`; raises CheckpointError for a line of others."""
    lines = list(lines)
    pairs = [tuple(line.split(" ")) for line in lines]
    whole = [len(pair) == 2 and all(pair) and is_piece(line) for line, pair in zip(lines, pairs, strict=True)]
    if not all(whole):
        bad = lines[whole.index(False)]
        raise CheckpointError(f"{path}: expected two pieces a line, got {bad[:40]!a}; fix: download the file again")
    return [(pair[0], pair[1]) for pair in pairs]


def _vocabulary(vocab: dict[str, Any], path: Path) -> dict[str, int]:
    """The pieces with their ids, which are whole numbers below MOST_IDS."""
    bad = [piece for piece, number in vocab.items() if type(number) is not int or not 0 <= number < MOST_IDS]
    bad += [piece for piece in vocab if not is_piece(piece)]
    if bad:
        shown = f"{ascii(bad[0])[:40]} with {vocab[bad[0]]!r:.40}"
        raise CheckpointError(f"{path}: expected pieces of text with their ids, got {shown}; fix: download it again")
    return vocab
