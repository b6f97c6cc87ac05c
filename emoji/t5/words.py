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
