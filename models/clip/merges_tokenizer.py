"""CLIP's tokenizer from its merges alone, of which a model may know only the first.

CLIP's own code numbers the pieces so: the 256 bytes, the same with the mark of a word's end, the pieces that merges
make, the two ends. Systems that bring that code along name how far their vocabulary goes, and publish no file of it.
"""

import gzip
import zlib
from pathlib import Path

from ..errors import CheckpointError
from ..readers.byte_pairs import merge_pairs, read_byte_pairs
from ..readers.given_files import MOST_TEXT_BYTES, given_text
from ..readers.tokenizer_json import to_tokenizer_json
from .tokenizer import END, START, WORD_END, clip_tokenizer

NOT_MERGES = 258
"""How many more pieces than merges a vocabulary has below `end_idx`: the bytes and two."""
HEADER = "#version"
"""Stands in the first line of a file of merges."""


def merges_tokenizer_json(path: Path, end_idx: int) -> str:
    """The JSON text of CLIP's tokenizer with the first `end_idx` - 258 of its merges: its ids end with `end_idx` + 254,
    which opens a text, and `end_idx` + 255, which closes it.

    The file is CLIP's `bpe_simple_vocab_16e6.txt.gz`, also unpacked or cut, or the merges.txt, tokenizer.json or folder
    of a CLIP tokenizer. Raises CheckpointError where it has too few merges.
    """
    merges, wanted = _merges(path), end_idx - NOT_MERGES
    if not 0 <= wanted <= len(merges):
        raise CheckpointError(
            f"{path}: expected at least {wanted} merges for a vocabulary of end_idx {end_idx}, got {len(merges)}; "
            "fix: give bpe_simple_vocab_16e6.txt.gz of CLIP, or the folder of a CLIP tokenizer"
        )
    alphabet = byte_pieces()
    pieces = alphabet + [f"{letter}{WORD_END}" for letter in alphabet]
    pieces += ["".join(pair) for pair in merges[:wanted]] + [START, END]
    vocab = {piece: number for number, piece in enumerate(pieces)}
    return to_tokenizer_json(clip_tokenizer(vocab, merges[:wanted], str(path)))


def byte_pieces() -> list[str]:
    """The letter that stands for each of the 256 bytes, in CLIP's order."""
    from tokenizers import pre_tokenizers

    return sorted(pre_tokenizers.ByteLevel.alphabet())


def _merges(path: Path) -> list[tuple[str, str]]:
    if path.is_dir() or path.suffix == ".json":
        folder, saved = (path, path / "tokenizer.json") if path.is_dir() else (path.parent, path)
        return read_byte_pairs(folder, saved).merges
    text = _unpacked(path) if path.suffix == ".gz" else given_text(path, "CLIP's merges")
    first, *lines = text.splitlines() or [""]
    if HEADER not in first:
        raise CheckpointError(
            f"{path}: expected CLIP's merges, whose first line says {HEADER}, got {first[:40]!r}; "
            "fix: give bpe_simple_vocab_16e6.txt.gz of CLIP, or the folder of a CLIP tokenizer"
        )
    return merge_pairs([line for line in lines if line], path)


def _unpacked(path: Path) -> str:
    try:
        if not path.is_file():
            raise OSError("a folder, a pipe or nothing")
        with gzip.open(path) as stream:
            content = stream.read(MOST_TEXT_BYTES + 1)
        if len(content) > MOST_TEXT_BYTES:
            raise OSError(f"more than {MOST_TEXT_BYTES} bytes in it")
        return content.decode("utf-8")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise CheckpointError(
            f"{path}: expected CLIP's merges, packed, got {error}; fix: download the file again"
        ) from error
