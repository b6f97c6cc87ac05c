"""Stage `publish_spoken`: words by voices that no stage trains on, recorded for the demo and the judge."""

import json
from pathlib import Path

import numpy as np
import soundfile

from .speech import DIALECTS, HELD_OUT_VOICES, RATE, name, say
from .spoken import RECORDINGS
from .vocabulary import picture_keys

VOICES = 2
GAP = RATE // 20
COMPRESSION = 0.95
"""Of 1: about 18 kbit/s of Opus, 1 MB in all."""


def train(folder: Path, minutes: float) -> None:
    """Writes `models/emoji/recordings` anew with espeak-ng; there is nothing to train."""
    RECORDINGS.mkdir(exist_ok=True)
    table = {language: record(language, voices_of(number)) for number, language in enumerate(DIALECTS)}
    (RECORDINGS / "words.json").write_text(json.dumps(table, ensure_ascii=False), encoding="utf-8")
    size = sum(path.stat().st_size for path in RECORDINGS.iterdir())
    print(f"{RECORDINGS}: {size / 1e6:.1f} MB")


def voices_of(number: int) -> list[str]:
    """Another pair of the held-out voices for each language."""
    return [HELD_OUT_VOICES[(VOICES * number + each) % len(HELD_OUT_VOICES)] for each in range(VOICES)]


def record(language: str, voices: list[str]) -> dict[str, dict[str, list[int]]]:
    """One file of all words end to end with gaps; returns where each begins and ends, by voice and picture."""
    parts: list[np.ndarray] = []
    where: dict[str, dict[str, list[int]]] = {}
    position = 0
    for voice in voices:
        where[voice] = {}
        for picture, key in enumerate(picture_keys()):
            word = say(name(picture, language), f"{DIALECTS[language][0]}+{voice}")
            where[voice][key] = [position, position + len(word)]
            parts += [word, np.zeros(GAP, np.float32)]
            position += len(word) + GAP
    soundfile.write(
        RECORDINGS / f"{language}.ogg",
        np.concatenate(parts),
        RATE,
        format="OGG",
        subtype="OPUS",
        compression_level=COMPRESSION,
    )
    return where
