"""Sounds for the tests of what reads them: samples, and the files that hold them."""

import struct
from pathlib import Path

import numpy as np
import soundfile

RATE, FRAMES = 44100, 176400
# Suffix, libsndfile's format and subtype, how far the samples may be off, and the rate where the codec has its own.
LOSSLESS = [
    ("wav", "WAV", "PCM_U8"),
    ("wav", "WAV", "PCM_16"),
    ("wav", "WAV", "PCM_24"),
    ("wav", "WAV", "PCM_32"),
    ("wav", "WAV", "FLOAT"),
    ("wav", "WAV", "DOUBLE"),
    ("flac", "FLAC", "PCM_16"),
    ("flac", "FLAC", "PCM_24"),
    ("aiff", "AIFF", "PCM_16"),
    ("au", "AU", "PCM_16"),
    ("caf", "CAF", "ALAC_16"),
    ("w64", "W64", "PCM_16"),
    ("rf64", "RF64", "PCM_16"),
]
LOSSY = [("ogg", "OGG", "VORBIS"), ("opus", "OGG", "OPUS"), ("mp3", "MP3", "MPEG_LAYER_III")]


def tones(frames: int, channels: int = 2, rate: int = RATE, level: float = 0.5) -> np.ndarray:
    """Loud chords, another for each channel, and a little noise: float32 [frames, channels]."""
    time = np.arange(frames) / rate
    random = np.random.default_rng(5)
    voices = [sum(np.sin(2 * np.pi * (130 + 90 * c) * k * time) / k for k in (1, 2, 3, 5)) for c in range(channels)]
    sound = np.stack(voices, 1) / 2.2 + 0.02 * random.standard_normal((frames, channels))
    return (level * sound).astype(np.float32)


def saved(
    folder: Path, samples: np.ndarray, suffix: str = "wav", form: str = "WAV", subtype: str = "PCM_16", rate=RATE
):
    """Written by libsndfile; `folder` also makes the name unique."""
    path = folder / f"sound-{subtype.lower()}.{suffix}"
    soundfile.write(path, samples, rate, format=form, subtype=subtype)
    return path


def foreign_wav(tag: int, rate: int = RATE, channels: int = 1, data: bytes = b"\1\2" * 1000) -> bytes:
    """A WAV whose header names any codec, rate and number of channels."""
    frame = 2 * channels
    header = struct.pack("<HHIIHH", tag, channels, rate, min(rate * frame, 2**32 - 1), frame, 16)
    body = b"WAVEfmt " + struct.pack("<I", 16) + header + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body
