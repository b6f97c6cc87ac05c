"""The English tokenizer in CLIP's published layout: byte-level pairs learnt on the captions."""

import json
from functools import cache
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from x2i.models.clip.tokenizer import END, START, WORD_END, clip_tokenizer

from .captions import variant
from .vocabulary import backgrounds, picture_keys

POSITIONS = 24
VOCABULARY = 1400


def corpus() -> list[str]:
    """The captions that the tokenizer's pairs are learnt on."""
    rng = np.random.default_rng(11)
    return [
        variant("English", key, background.key, rng)
        for key in picture_keys()
        for background in backgrounds()
        for _ in range(6)
    ]


@cache
def tokenizer() -> Tokenizer:
    """CLIP's tokenizer over pairs learnt on the captions; every byte is known, so any text can be written in it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learnt = Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    blank = clip_tokenizer({START: 0, END: 1}, [], "blank")
    learnt.normalizer, learnt.pre_tokenizer = blank.normalizer, blank.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=alphabet, end_of_word_suffix=WORD_END, show_progress=False
    )
    learnt.train_from_iterator(corpus(), trainer)
    merges = [tuple(pair) for pair in json.loads(learnt.to_str())["model"]["merges"]]
    pieces = [*alphabet, *(letter + WORD_END for letter in alphabet), *("".join(pair) for pair in merges), START, END]
    vocab = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    return clip_tokenizer(vocab, merges, "captions")


def encode(texts: list[str]) -> np.ndarray:
    """int64 [n, POSITIONS]: start, words, end, then the end token again as padding, as Stable Diffusion v1 pads."""
    end = tokenizer().token_to_id(END)
    rows = np.full((len(texts), POSITIONS), end, np.int64)
    for row, encoding in zip(rows, tokenizer().encode_batch(texts), strict=True):
        ids = encoding.ids[: POSITIONS - 1]
        row[: len(ids)] = ids
    return rows


def save(folder: Path) -> None:
    """Writes vocab.json, merges.txt and tokenizer_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    model = json.loads(tokenizer().to_str())["model"]
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": POSITIONS,
        "do_lower_case": True,
        "bos_token": START,
        "eos_token": END,
        "pad_token": END,
        "unk_token": END,
    }
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
