"""The English tokenizer in T5's published layout: a unigram model over the captions' words and letters."""

import json
from functools import cache
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, processors

from ..world import multilingual

POSITIONS = 24
SPECIAL = ("<pad>", "</s>", "<unk>")
PAD, END = 0, 1
SPELLED_SHARE = 0.3
SENTINELS = 10
"""Stand-ins for what is masked out of a text, `<extra_id_0>` with the last id; T5 itself has 100."""


@cache
def tokenizer() -> Tokenizer:
    """T5's tokenizer: ids 0-2 special, no token before a text, `</s>` behind it, the stand-ins last."""
    sentinels = [f"<extra_id_{number}>" for number in reversed(range(SENTINELS))]
    made = multilingual.unigram(SPECIAL, ("English",), sentinels)
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", END)]
    )
    return made


def mask_id() -> int:
    """The id of the first stand-in."""
    return tokenizer().get_vocab_size() - 1


def encode(texts: list[str]) -> np.ndarray:
    """int64 [n, POSITIONS], padded with 0; a cut text still ends with `</s>`."""
    return multilingual.encode_padded(tokenizer(), texts, POSITIONS, PAD)


def encode_spelled(texts: list[str], rng: np.random.Generator) -> np.ndarray:
    """`encode`, with a word in SPELLED_SHARE of the texts as its letters, where there is room for them.

    No caption is written so, but words that are in none are; without these, nobody would have taught their letters.
    """
    rows = encode(texts)
    for row, picked in zip(rows, rng.random(len(texts)) < SPELLED_SHARE, strict=True):
        ids = row[row != PAD].tolist()
        if not picked or len(ids) < 2:
            continue
        place = int(rng.integers(len(ids) - 1))
        ids[place : place + 1] = _letters(ids[place])
        if len(ids) <= POSITIONS:
            row[: len(ids)] = ids
    return rows


@cache
def _letters(number: int) -> list[int]:
    """A piece as the pieces of its letters, or the piece where a letter has none."""
    ids = [tokenizer().token_to_id(letter) for letter in tokenizer().id_to_token(number) or ""]
    return [each for each in ids if each is not None] if all(each is not None for each in ids) else [number]


def save(folder: Path) -> None:
    """Writes tokenizer.json and tokenizer_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer().save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "T5Tokenizer",
        "model_max_length": POSITIONS,
        "extra_ids": SENTINELS,
        "pad_token": SPECIAL[PAD],
        "eos_token": SPECIAL[END],
        "unk_token": "<unk>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
