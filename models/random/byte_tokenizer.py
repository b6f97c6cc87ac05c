"""Tokenizers with one token a byte, for models with random weights, which were trained on no vocabulary."""

from ..clip.merges_tokenizer import byte_pieces
from ..clip.tokenizer import END, START, WORD_END, clip_tokenizer
from ..readers.tokenizer_json import to_tokenizer_json

XLMR_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
"""Under the ids 0 to 3."""


def byte_clip_json(vocab_size: int) -> str:
    """CLIP's tokenizer without a merge, as its JSON text: 256 bytes, 256 bytes that end a word, two special tokens.

    The special tokens have the last two ids of `vocab_size`, which is 514 or more.
    """
    alphabet = byte_pieces()
    pieces = alphabet + [letter + WORD_END for letter in alphabet]
    assert vocab_size >= len(pieces) + 2
    vocab = {piece: number for number, piece in enumerate(pieces)}
    return to_tokenizer_json(
        clip_tokenizer({**vocab, START: vocab_size - 2, END: vocab_size - 1}, [], "byte vocabulary")
    )


def byte_xlmr_json(vocab_size: int) -> str:
    """A byte tokenizer with XLM-R's special tokens under XLM-R's ids, as its JSON text: `<s>` bytes `</s>`.

    `vocab_size`, the rows of the model's embedding, is 260 or more.
    """
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

    pieces = [*XLMR_SPECIAL, *byte_pieces()]
    assert vocab_size >= len(pieces)
    tokenizer = Tokenizer(models.BPE(vocab={piece: number for number, piece in enumerate(pieces)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in XLMR_SPECIAL])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", pieces.index("<s>")), ("</s>", pieces.index("</s>"))]
    )
    return to_tokenizer_json(tokenizer)
