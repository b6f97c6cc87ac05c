"""A sound as a network reads it: AudioCLIP's audio branch in GlueGen, or a codec of one channel."""

import os
from dataclasses import dataclass, replace
from math import log10

import numpy as np

from ..errors import InputError
from .sound_files import Recording, SoundSource, read_sound, require_sound

LEAST_SAMPLE, MOST_SAMPLE = -32768.0, 32767.0
NEARLY_SILENT = 1e-3
"""Span of the samples below which what is heard is mostly a recorder's own noise: -60 dB of full scale, or 2 * 33
levels of 16 bits."""
LARGEST = 1e30
"""Of a sample: float32 still holds 65535 times the span of two such."""


@dataclass(frozen=True, slots=True)
class Waveform:
    """`samples` float32 [1, channels, frames] from -32768 to 32767, or of one channel [1, frames] from about -1 to 1;
    `notes` are warnings, one line each."""

    samples: np.ndarray
    notes: tuple[str, ...] = ()


def open_waveform(source: SoundSource, rate: int, frames: int) -> Waveform:
    """A file or (samples, rate) by `read_sound`, at `rate` Hz, one channel doubled, cut or padded to `frames` samples.

    The lowest and highest sample of all channels together become -32768 and 32767, as GlueGen's loader does it: how
    loud it was is lost. A shorter sound is centred between its own first and last samples, averaged over the channels.
    More than two channels are kept, with a note: the network hears each alone and adds them up.

    Another rate is converted by soxr at its best quality, the same rate is left alone. GlueGen's authors used resampy
    (`kaiser_best`). On their three clips, offered at 16, 22.05, 48 and 96 kHz, the two differ by 0.5 % of the spread at
    most from below 44.1 kHz, where the filters end differently, and by 0.04 % from above. What the network hears in the
    bins that a conversion leaves silent is chance: with the goldens' random weights its features from the two are 0.94
    to 0.99 alike, and so are those from one sound with and without noise of a hundredth of a level of 16 bits.

    Raises InputError, one line: what `read_sound` refuses, samples that are no finite numbers, or a sound in which no
    channel changes (theirs divides by zero).
    """
    heard = frames / rate
    where = _where(source)
    recording = read_sound(source, heard)
    _check(recording, heard, where)
    samples = _resampled(recording, rate)[:frames]
    if len(samples) < 2:
        raise InputError(
            f"{where}: expected a sound, got {len(recording.samples)} samples at {recording.rate} Hz, less than two at "
            f"{rate} Hz; give a longer one"
        )
    if not samples.max() > samples.min():
        raise InputError(_nothing_heard(where, heard))
    if samples.shape[1] == 1:
        samples = np.repeat(samples, 2, 1)
    return Waveform(
        _centred(_scaled(samples.T), frames)[None], (*recording.notes, *_waveform_notes(recording, heard, where))
    )


def open_mono(source: SoundSource, rate: int, frames: int) -> Waveform:
    """A file or (samples, rate) by `read_sound`, its channels averaged, at `rate` Hz, as loud as it is: cut to `frames`
    samples, or followed by silence.

    Another rate is converted as in `open_waveform`. Raises InputError, one line: what `read_sound` refuses, and samples
    that are no finite numbers.
    """
    heard = frames / rate
    where = _where(source)
    recording = read_sound(source, heard)
    _check_finite(recording, where)
    mono = replace(recording, samples=recording.samples.mean(axis=1, keepdims=True, dtype=np.float32))
    samples = _resampled(mono, rate)[:frames, 0]
    notes = [*recording.notes, *([_longer_note(recording, heard, where)] if recording.seconds > heard else [])]
    return Waveform(np.pad(samples, (0, frames - len(samples)))[None], tuple(notes))


def _where(source: SoundSource) -> str:
    return f"sound {source}" if isinstance(source, str | os.PathLike) else "sound"


def _check_finite(recording: Recording, where: str) -> None:
    bad = np.count_nonzero(~(np.abs(recording.samples) <= LARGEST))
    if bad:
        raise InputError(
            f"{where}: expected samples of about -1 to 1, got {bad} that are infinite or no numbers; save it again"
        )


def _check(recording: Recording, heard: float, where: str) -> None:
    """Of the samples that are heard; a resampler would make something of a constant's edges."""
    _check_finite(recording, where)
    first = recording.samples[: max(1, round(heard * recording.rate))]
    if not (first != first[0]).any():
        raise InputError(_nothing_heard(where, heard))


def _nothing_heard(where: str, heard: float) -> str:
    return (
        f"{where}: expected a sound, got silence or a constant throughout the first {heard:.2f} s; cut off the silence "
        "before the sound, or give another"
    )


def _resampled(recording: Recording, rate: int) -> np.ndarray:
    if recording.rate == rate:
        return recording.samples
    with require_sound("soxr"):
        import soxr
    return soxr.resample(recording.samples, recording.rate, rate, quality="VHQ")


def _scaled(samples: np.ndarray) -> np.ndarray:
    low, high = samples.min(), samples.max()
    return (samples - low) * np.float32(MOST_SAMPLE - LEAST_SAMPLE) / (high - low) + np.float32(LEAST_SAMPLE)


def _centred(samples: np.ndarray, frames: int) -> np.ndarray:
    missing = frames - samples.shape[1]
    left = round(0.5 * missing)
    before, after = (samples[:, edge].mean(dtype=np.float32) for edge in (0, -1))
    padding = [
        np.full((len(samples), width), value, np.float32) for width, value in ((left, before), (missing - left, after))
    ]
    return np.concatenate([padding[0], samples, padding[1]], axis=1)


def _longer_note(recording: Recording, heard: float, where: str) -> str:
    return f"{where}: it is {recording.seconds:.2f} s long; the first {heard:.2f} s are heard, no more"


def _waveform_notes(recording: Recording, heard: float, where: str) -> list[str]:
    notes = []
    channels = recording.samples.shape[1]
    if channels > 2:
        notes.append(
            f"{where}: it has {channels} channels, each of which is heard alone before they are added up, where "
            "AudioCLIP learnt from two; mix it down to two"
        )
    if recording.seconds > heard:
        notes.append(_longer_note(recording, heard, where))
    first = recording.samples[: round(heard * recording.rate)]
    span = float(first.max()) - float(first.min())
    if span < NEARLY_SILENT:
        notes.append(
            f"{where}: it is nearly silent ({20 * log10(span / 2):.0f} dB of full scale); loudness does not count, so "
            "that its noise is heard as loud as any sound"
        )
    return notes
