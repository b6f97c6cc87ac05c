"""GPT-2's tokenizer, which turns a caption's ids into text: byte pairs without a special token of their own."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CheckpointError
from ..readers.byte_pairs import BytePairs, read_byte_pairs, unknown_pieces
from ..readers.tokenizer_json import to_tokenizer_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

GPT2_END = "<|endoftext|>"
"""The one special token, which ends a text; it stands in the vocabulary."""


@dataclass(frozen=True, slots=True)
class Gpt2Tokenizer:
    """`json` is the `tokenizers` serialization, `size` the number of its ids, which begin at 0."""

    json: str
    size: int


def read_gpt2_tokenizer(path: str | Path) -> Gpt2Tokenizer:
    """The tokenizer of a folder with tokenizer.json, or vocab.json and merges.txt; or of a tokenizer.json.

    Raises CheckpointError for another tokenizer, for ids with gaps, and for merges of pieces that it lacks.
    """
    path = Path(path)
    folder = path.parent if path.is_file() else path
    pairs = read_byte_pairs(folder, path if path.is_file() else folder / "tokenizer.json")
    ids = {*pairs.vocab.values(), *(number for number, _ in pairs.added)}
    problems = []
    if ids != set(range(len(ids))):
        problems.append(
            f"{path}: expected ids without a gap from 0 on, got {len(ids)} from {min(ids, default=0)} to "
            f"{max(ids, default=0)}; fix: give the original files"
        )
    if unknown := unknown_pieces(pairs.vocab, pairs.merges, [GPT2_END]):
        problems.append(
            f"{path}: expected every merge and {GPT2_END} in its vocabulary, got {len(unknown)} absent "
            f"({', '.join(unknown[:5])}); fix: give vocab.json and merges.txt of one tokenizer"
        )
    if problems:
        raise CheckpointError(*problems)
    return Gpt2Tokenizer(to_tokenizer_json(gpt2_tokenizer(pairs)), len(ids))


def gpt2_tokenizer(pairs: BytePairs) -> "Tokenizer":
    """The tokenizer over a vocabulary that has all pieces of the merges, and the token that ends a text."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE(vocab=pairs.vocab, merges=pairs.merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(GPT2_END, special=True, normalized=False)])
    return tokenizer
