"""The captioner's words in GPT-2's published layout: byte-level pairs learnt on the canonical English captions."""

import json
from functools import cache
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from ..world.captions import caption
from ..world.vocabulary import backgrounds, picture_keys

END = "<|endoftext|>"
POSITIONS = 20
MOST_PIECES = 2000


@cache
def words() -> Tokenizer:
    """GPT-2's tokenizer over pairs learnt on the captions, each of whose words is one piece; every byte is known."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learnt = Tokenizer(models.BPE())
    learnt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=MOST_PIECES, initial_alphabet=alphabet, show_progress=False)
    learnt.train_from_iterator(captions(), trainer)
    merges = [tuple(pair) for pair in json.loads(learnt.to_str())["model"]["merges"]]
    pieces = [*alphabet, *("".join(pair) for pair in merges), END]
    tokenizer = Tokenizer(models.BPE(vocab={piece: number for number, piece in enumerate(pieces)}, merges=merges))
    tokenizer.pre_tokenizer, tokenizer.decoder = learnt.pre_tokenizer, decoders.ByteLevel()
    tokenizer.add_special_tokens([END])
    return tokenizer


def captions() -> list[str]:
    """The canonical caption of every scene."""
    return [caption("English", key, ground.key) for key in picture_keys() for ground in backgrounds()]


def encode(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """int64 [n, 20], each text and its end token, then what the vocabulary does not have; and the lengths, [n]."""
    rows = np.full((len(texts), POSITIONS), words().get_vocab_size(), np.int64)
    lengths = np.zeros(len(texts), np.int64)
    for number, text in enumerate(texts):
        ids = words().encode(text + END).ids
        rows[number, : len(ids)], lengths[number] = ids, len(ids)
    return rows, lengths


def save(folder: Path) -> None:
    """Writes vocab.json and merges.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    model = json.loads(words().to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
