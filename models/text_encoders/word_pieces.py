"""BERT's uncased tokenizer from its vocabulary, a line a piece, as the JSON text of the `tokenizers` library."""

from collections.abc import Mapping
from pathlib import Path

from ..errors import CheckpointError, refuse
from ..readers.given_files import given_text
from ..readers.tokenizer_json import missing_files, read_tokenizer, to_tokenizer_json

OPENING, CLOSING, PADDING, UNKNOWN, MASKED = "[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]"
SPECIAL = (PADDING, UNKNOWN, OPENING, CLOSING, MASKED)
VOCABULARY = "vocab.txt"
LONGEST_WORD = 100
"""Letters; a longer one is unknown."""


def word_piece_tokenizer(path: Path, classes: int) -> tuple[str, int]:
    """The tokenizer's JSON text and the id of its padding, of a `vocab.txt`, or of a folder with one or with a
    tokenizer.json, whose ids are below `classes`.

    Texts are lower-cased, cut into pieces and put between OPENING and CLOSING. Raises CheckpointError with what does
    not fit.
    """
    from tokenizers import Tokenizer

    file = path / VOCABULARY if path.is_dir() else path
    saved = path / "tokenizer.json"
    if saved.is_file() and not file.is_file():
        text, source = to_tokenizer_json(read_tokenizer(saved)), str(saved)
    elif not file.is_file():
        raise missing_files(path, VOCABULARY, "tokenizer.json")
    elif file.suffix == ".json":
        text, source = to_tokenizer_json(read_tokenizer(file)), str(file)
    else:
        text, source = tokenizer_of_pieces(_pieces(file)), str(file)
    made = Tokenizer.from_str(text)
    vocabulary = made.get_vocab()
    problems = []
    opened = [made.token_to_id(OPENING), made.token_to_id(CLOSING)]
    if PADDING not in vocabulary or made.encode("").ids != opened:
        problems.append(
            f"{source}: expected a tokenizer of {OPENING} ... {CLOSING} with {PADDING}, as BERT's is, got another; "
            "fix: give bert-base-uncased's"
        )
    most = max(vocabulary.values(), default=0)
    if most >= classes:
        problems.append(
            f"{source}: expected ids below {classes}, the encoder's vocabulary, got up to {most}; fix: give the "
            "tokenizer that it was trained with"
        )
    refuse(problems)
    return text, vocabulary[PADDING]


def _pieces(file: Path) -> dict[str, int]:
    """The id of each piece of a vocabulary. Raises CheckpointError for one without the special ones, or with a piece
    twice."""
    lines = given_text(file, f"BERT's {VOCABULARY}").replace("\r\n", "\n").removesuffix("\n").split("\n")
    found = {piece: number for number, piece in enumerate(lines)}
    lacking = [piece for piece in SPECIAL if piece not in found]
    got = f"none of {', '.join(lacking)}" if lacking else f"{len(lines) - len(found)} of {len(lines)} pieces twice"
    if lacking or len(found) < len(lines):
        raise CheckpointError(
            f"{file}: expected BERT's vocabulary, a piece a line, got {got}; fix: give bert-base-uncased's {VOCABULARY}"
        )
    return found


def tokenizer_of_pieces(pieces: Mapping[str, int]) -> str:
    """The tokenizer's JSON text of a vocabulary with the SPECIAL pieces in it: the id of each piece."""
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

    made = Tokenizer(models.WordPiece(dict(pieces), unk_token=UNKNOWN, max_input_chars_per_word=LONGEST_WORD))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single=f"{OPENING} $A {CLOSING}", special_tokens=[(token, pieces[token]) for token in (OPENING, CLOSING)]
    )
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return to_tokenizer_json(made)
