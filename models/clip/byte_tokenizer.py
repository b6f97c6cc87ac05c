"""Tokenizers with one token a byte, for models that were trained on nothing."""

from ..readers.tokenizer_json import serialized
from .tokenizer import END, START, WORD_END, clip_tokenizer

XLMR_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")


def byte_clip_json(vocab_size: int) -> str:
    """CLIP's tokenizer without a merge: 256 bytes, 256 bytes that end a word, and the two special tokens at the end."""
    alphabet = _alphabet()
    pieces = alphabet + [letter + WORD_END for letter in alphabet]
    assert vocab_size >= len(pieces) + 2
    vocab = {piece: number for number, piece in enumerate(pieces)}
    return serialized(clip_tokenizer({**vocab, START: vocab_size - 2, END: vocab_size - 1}, [], "byte vocabulary"))


def byte_xlmr_json(vocab_size: int) -> str:
    """A byte tokenizer with XLM-R's special tokens under XLM-R's ids: `<s>` bytes `</s>`."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

    pieces = [*XLMR_SPECIAL, *_alphabet()]
    assert vocab_size >= len(pieces)
    tokenizer = Tokenizer(models.BPE(vocab={piece: number for number, piece in enumerate(pieces)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in XLMR_SPECIAL])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", pieces.index("<s>")), ("</s>", pieces.index("</s>"))]
    )
    return serialized(tokenizer)


def _alphabet() -> list[str]:
    from tokenizers import pre_tokenizers

    return sorted(pre_tokenizers.ByteLevel.alphabet())
