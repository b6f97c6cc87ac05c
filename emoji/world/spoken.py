"""The pictures' names as committed recordings: two voices a language that the audio branch was never trained on.

espeak-ng made them, whose speech is free of conditions; reading them back needs `soundfile`, not espeak-ng.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

RECORDINGS = Path(__file__).parents[1] / "recordings"


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


def prepared(samples: np.ndarray, frames: int) -> np.ndarray:
    """Mono samples at the encoder's rate, [n] -> float32 [2, frames], from -32768 to 32767 and padded on both sides.

    A recording that is longer keeps its start. The scale makes loudness meaningless, and the padding repeats the
    first and the last sample.
    """
    kept = np.asarray(samples, np.float32)[:frames]
    low, high = kept.min(), kept.max()
    assert high > low, "a constant recording has no scale"
    scaled = (kept - low) / (high - low) * np.float32(65535) - np.float32(32768)
    missing = frames - len(scaled)
    left = round(0.5 * missing)
    return np.repeat(np.pad(scaled, (left, missing - left), mode="edge")[None], 2, axis=0)
