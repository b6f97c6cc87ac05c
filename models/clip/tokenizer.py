"""CLIP's tokenizer: lower-cased byte-level pairs with an end-of-word mark, built from a vocabulary and its merges."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..errors import CheckpointError
from ..readers.byte_pairs import unknown_pieces

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer


START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
"""The two special tokens, and the mark that a piece at a word's end carries."""
WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class ClipEnds(NamedTuple):
    """The tokens that open and close every prompt, and the one that stands for what the vocabulary lacks."""

    start: str = START
    end: str = END
    unknown: str = END


CLIP_ENDS = ClipEnds()


def clip_tokenizer(
    vocab: dict[str, int],
    merges: list[tuple[str, str]],
    source: str,
    ends: ClipEnds = CLIP_ENDS,
    added: "Sequence[AddedToken] | None" = None,
) -> "Tokenizer":
    """CLIP's tokenizer over a vocabulary of byte pairs, which puts `ends.start` before a text and `ends.end` behind it.

    `vocab` maps a piece to its id, `merges` are in their order of rank. `added` are the tokens that are found before
    the text is split, the ends unless others are given; one that the vocabulary lacks gets the next id. Raises
    CheckpointError, in which `source` names the files, where a merge or an end is not in the vocabulary. Source: CLIP
    (arXiv 2103.00020).
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    if added is None:
        added = [AddedToken(token, special=True, normalized=False) for token in (ends.start, ends.end)]
    known = {token.content for token in added}
    if unknown := unknown_pieces(vocab, merges, set(ends) - known):
        raise CheckpointError(
            f"{source}: expected every merge and both special tokens in vocab.json, got {len(unknown)} absent "
            f"({', '.join(unknown[:5])}); fix: give vocab.json and merges.txt of one tokenizer"
        )
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, end_of_word_suffix=WORD_END, unk_token=ends.unknown))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(list(added))
    start, end = tokenizer.token_to_id(ends.start), tokenizer.token_to_id(ends.end)
    assert start is not None and end is not None, "the ends are in the vocabulary, or among those added"
    tokenizer.post_processor = processors.RobertaProcessing(
        (ends.end, end), (ends.start, start), trim_offsets=False, add_prefix_space=False
    )
    return tokenizer
