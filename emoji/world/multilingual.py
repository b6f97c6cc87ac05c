"""The multilingual tokenizer in XLM-R's published layout: a unigram model over the captions' words and letters."""

import json
import re
import string
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from .vocabulary import vocabulary_table

POSITIONS = 24
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
MASK = "<mask>"
PAD = 1
SPACE = "▁"
WORD, LETTER = -10.0, -11.0
"""Unigram scores: any cover with fewer pieces wins, and letters are there for what no word covers."""


def parts(spoken: Collection[str]) -> list[str]:
    """Names, synonyms, colours, articles and the fixed parts of every caption form, in these languages."""
    entries = [*vocabulary_table()["pictures"], *vocabulary_table()["backgrounds"]]
    found = []
    for language in spoken:
        words = vocabulary_table()["languages"][language]
        found += [part for form in [*words["plain"], *words["scene"]] for part in re.split(r"\{\w+\}", form)]
        found += words["articles"]
        found += [name for entry in entries for name in (entry["names"][language], *entry["synonyms"][language])]
    return found


def unigram(special: Sequence[str], spoken: Collection[str], further: Sequence[str] = ()) -> Tokenizer:
    """A unigram model over the words and letters of these languages' captions: NFKC (and lower case), a mark for
    spaces. The special tokens have the first ids, "<unk>" is one of them, and the further ones the last."""
    normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace("'", "’")])
    words = sorted({word for part in parts(spoken) for word in normalizer.normalize_str(part).split()})
    letters = sorted({*string.ascii_lowercase, *string.digits, *string.punctuation, *"".join(words)} - {SPACE})
    marked = [SPACE + word for word in words]
    pieces = dict.fromkeys([*marked, *words], WORD)
    pieces |= dict.fromkeys([SPACE, *letters], LETTER)
    vocabulary = [*((token, 0.0) for token in special), *pieces.items()]
    made = Tokenizer(models.Unigram(vocabulary, unk_id=special.index("<unk>")))
    made.normalizer = normalizer
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    made.decoder = decoders.Metaspace()
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (*special, *further)])
    return made


@cache
def tokenizer() -> Tokenizer:
    """XLM-R's tokenizer of all languages: ids 0-3 special, the mask last."""
    made = unigram(SPECIAL, vocabulary_table()["languages"], (MASK,))
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return made


def mask_id() -> int:
    """The id of the masked word's token."""
    found = tokenizer().token_to_id(MASK)
    assert found is not None
    return found


def encode(texts: list[str]) -> np.ndarray:
    """int64 [n, POSITIONS], padded with 1; a cut text still ends with `</s>`."""
    return encode_padded(tokenizer(), texts, POSITIONS, PAD)


def encode_padded(tokenizer: Tokenizer, texts: list[str], positions: int, pad: int) -> np.ndarray:
    """int64 [n, positions], padded with `pad`; a cut text still ends with its last special token."""
    rows = np.full((len(texts), positions), pad, np.int64)
    for row, encoding in zip(rows, tokenizer.encode_batch(texts), strict=True):
        ids = encoding.ids
        ids = ids if len(ids) <= positions else [*ids[: positions - 1], ids[-1]]
        row[: len(ids)] = ids
    return rows


def save(folder: Path) -> None:
    """Writes tokenizer.json, tokenizer_config.json and special_tokens_map.json."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer().save(str(folder / "tokenizer.json"))
    roles = dict(
        zip(
            ("bos_token", "cls_token", "pad_token", "eos_token", "sep_token", "unk_token", "mask_token"),
            ("<s>", "<s>", "<pad>", "</s>", "</s>", "<unk>", MASK),
            strict=True,
        )
    )
    settings = roles | {"tokenizer_class": "XLMRobertaTokenizer", "model_max_length": POSITIONS}
    for name, content in (("tokenizer_config.json", settings), ("special_tokens_map.json", roles)):
        (folder / name).write_text(json.dumps(content, indent=1), encoding="utf-8")
