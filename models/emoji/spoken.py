"""The pictures' names as committed recordings: two voices a language that the audio branch was never trained on.

espeak-ng made them, whose speech is free of conditions; reading them back needs `soundfile`, not espeak-ng.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

RECORDINGS = Path(__file__).parent / "recordings"


@dataclass(frozen=True, slots=True)
class Spoken:
    """One recorded word: picture `key`, `language`, `voice`, mono `samples` float32 [n] at `rate` Hz."""

    key: str
    language: str
    voice: str
    samples: np.ndarray
    rate: int


@cache
def spoken_words() -> tuple[Spoken, ...]:
    """Every picture's name in every language by every recorded voice, in that table's order."""
    table = json.loads((RECORDINGS / "words.json").read_text(encoding="utf-8"))
    return tuple(word for language, voices in table.items() for word in _cut(language, voices))


def _cut(language: str, voices: dict[str, dict[str, list[int]]]) -> list[Spoken]:
    """One language's file, cut at the first and last frames that the table holds."""
    import soundfile

    samples, rate = soundfile.read(RECORDINGS / f"{language}.ogg", dtype="float32")
    return [
        Spoken(key, language, voice, samples[first:last], rate)
        for voice, words in voices.items()
        for key, (first, last) in words.items()
    ]
