"""What espeak-ng says, for training alone: the pictures' names in five languages and many voices.

Several of its voices are never trained on: whoever judges the encoder speaks in those.
"""

import io
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from .vocabulary import picture_keys, vocabulary_table

RATE = 16000
DIALECTS = {
    "English": ("en-us", "en-gb", "en-gb-x-rp", "en-gb-scotland", "en-029"),
    "German": ("de",),
    "French": ("fr-fr", "fr-be", "fr-ch"),
    "Spanish": ("es", "es-419"),
    "Italian": ("it",),
}
"""espeak-ng's voices by language; the first is the one that judges hear."""
TRAINED_VOICES = (
    *("m1", "m2", "m3", "m5", "m6", "m7", "m8", "f1", "f3", "f4", "f5", "klatt", "klatt2", "klatt4", "Alex", "Alicia"),
    *("Andrea", "Andy", "Denis", "Diogo", "Gene", "Hugo", "Jacky", "Lee", "Marco", "Mario", "Mike", "Tweaky", "adam"),
    *("anika", "antonio", "aunty", "boris", "caleb", "david", "ed", "edward", "grandma", "grandpa", "gustave", "iven"),
    *("john", "linda", "marcelo", "max", "michel", "miguel", "norbert", "pablo", "paul", "pedro", "quincy", "rob"),
    *("robert", "sandro", "shelby", "steph", "travis", "victor", "zac", "croak"),
)
HELD_OUT_VOICES = ("f2", "m4", "belinda", "benjamin", "Annie", "Michael")
SPEEDS, PITCHES = (125, 230), (20, 80)
"""Words a minute, and espeak-ng's scale of pitch, of which a voice's own is 50."""
USUAL_SPEED, USUAL_PITCH = 165, 50
MARGIN, QUIET = RATE // 100, 0.01
"""Samples kept around a word, and the share of its loudest sample below which a recording counts as silent."""


@dataclass(frozen=True, slots=True)
class Utterances:
    """Trained voices' words: int16 `samples` end to end, each from `starts[i]` to `starts[i + 1]`, of `pictures[i]`."""

    samples: np.ndarray
    starts: np.ndarray
    pictures: np.ndarray

    def word(self, number: int) -> np.ndarray:
        """One word as floats between -1 and 1."""
        return self.samples[self.starts[number] : self.starts[number + 1]].astype(np.float32) / 32768


def name(picture: int, language: str) -> str:
    """What is said for a picture, by its number, in a language."""
    return vocabulary_table()["pictures"][picture]["names"][language].replace("’", "'")


def say(text: str, voice: str, speed: int = USUAL_SPEED, pitch: int = USUAL_PITCH) -> np.ndarray:
    """espeak-ng's rendering of a few words without the silence around them: float32 [n] at RATE."""
    command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "--stdout", text]
    spoken = subprocess.run(command, capture_output=True, check=True).stdout
    samples, rate = soundfile.read(io.BytesIO(spoken), dtype="float32")
    return trimmed(soxr.resample(samples, rate, RATE))


def trimmed(samples: np.ndarray) -> np.ndarray:
    """Samples [n] without the silence before and behind."""
    loud = np.flatnonzero(np.abs(samples) > QUIET * np.abs(samples).max())
    return samples[max(0, loud[0] - MARGIN) : loud[-1] + MARGIN]


def utterances(folder: Path) -> Utterances:
    """Every name in every language by every trained voice, spoken once and kept in `folder/speech.npz`."""
    path = folder / "speech.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / "speech.partial.npz"
        kept = _spoken()
        np.savez(partial, samples=kept.samples, starts=kept.starts, pictures=kept.pictures)
        os.replace(partial, path)
    with np.load(path, allow_pickle=False) as stored:
        return Utterances(stored["samples"], stored["starts"], stored["pictures"])


def _spoken() -> Utterances:
    rng = np.random.default_rng(61)
    words, pictures = [], []
    for language, dialects in DIALECTS.items():
        for voice in TRAINED_VOICES:
            for picture in range(len(picture_keys())):
                dialect, speed, pitch = rng.choice(dialects), rng.integers(*SPEEDS), rng.integers(*PITCHES)
                word = say(name(picture, language), f"{dialect}+{voice}", int(speed), int(pitch))
                words.append(np.round(np.clip(word, -1, 1) * 32767).astype(np.int16))
                pictures.append(picture)
        print(f"{language}: {len(words)} words spoken so far", flush=True)
    starts = np.cumsum([0, *(len(word) for word in words)])
    return Utterances(np.concatenate(words), starts, np.asarray(pictures))
