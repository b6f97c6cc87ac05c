"""Stage `audio`: a small audio branch of AudioCLIP's class, taught which picture a spoken word names.

Whoever says it, and in whatever language: all its names are pulled to one direction of the features.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from x2i.models.sound.audioclip import AudioClip, AudioClipSettings

from ..world import vocabulary
from ..world.speech import RATE, Utterances, utterances
from ..world.spoken import prepared
from .training import TrainingStage, averaged, device, low_precision, report

BATCH = 64
PEAK = 3e-3
SETTINGS = AudioClipSettings(
    rate=RATE,
    frames=24000,
    n_fft=256,
    hop=160,
    window=240,
    bands=3,
    width=12,
    layers=(1, 2, 2, 1),
    groups=6,
    group_width=4,
    features=256,
)
SHARPNESS = 16.0
"""How much a cosine counts in the softmax over the pictures."""
FASTEST = 1.18
NOISY_SHARE, LOUDEST_NOISE, FAINTEST_NOISE = 0.8, -14.0, -75.0
"""How many words get noise, and its level against the word's loudest sample, in dB."""
TILT = 5.0
"""Standard deviation of the slope and the two waves, in dB, that a microphone lays over the spectrum."""
AUDIBLE, FLOOR_SHIFT = -100.0, 25.0
"""Below this level in dB a bin holds nothing but rounding, which no two machines do alike."""
HIDDEN = 0.15
"""Longest share of the rows, and of the columns, that is hidden from the encoder."""


class Listener(nn.Module):
    """The audio branch, and the direction of its features that each picture's names are pulled to."""

    def __init__(self) -> None:
        super().__init__()
        self.audio = build()
        self.pictures = nn.Linear(SETTINGS.features, len(vocabulary.picture_keys()), bias=False)


def build() -> AudioClip:
    """The untrained audio branch."""
    return AudioClip(SETTINGS)


def trained(folder: Path) -> AudioClip:
    """The audio branch as stage `audio` left it, in eval mode."""
    return averaged(Listener(), folder / "audio.pt").audio


def draw_waveform(rng: np.random.Generator, word: np.ndarray) -> np.ndarray:
    """One word as it may be recorded: faster or slower, early or late, with noise; prepared, [frames]."""
    speed = FASTEST ** rng.uniform(-1, 1)
    word = np.interp(np.arange(0, len(word) - 1, speed), np.arange(len(word)), word).astype(np.float32)
    room = max(0, SETTINGS.frames - len(word))
    silence = np.zeros(int(room * rng.random()), np.float32)
    cut = int(len(silence) * rng.random())
    samples = np.concatenate([silence[:cut], word, silence[cut:]])
    if rng.random() < NOISY_SHARE:
        level = 10 ** (rng.uniform(FAINTEST_NOISE, LOUDEST_NOISE) / 20) * np.abs(word).max()
        samples += level / 3 * _coloured(rng, len(samples))
    return prepared(samples, SETTINGS.frames)[0]


def _coloured(rng: np.random.Generator, count: int) -> np.ndarray:
    """Noise of deviation 1 between white and brownish."""
    white = rng.standard_normal(count, np.float32)
    smooth = white + rng.random() * np.concatenate([white[:1], white[:-1]])
    return smooth / smooth.std()


def disturbed(decibels: Tensor, random: torch.Generator) -> Tensor:
    """Spectrograms [B, bands, rows, columns] under another microphone, with parts hidden and other rounding noise."""
    count, bands, rows, columns = decibels.shape
    place = torch.linspace(0, torch.pi, bands * rows)
    waves = torch.stack([torch.cos(place * order) for order in (1, 2, 3)])
    tilt = TILT * torch.randn(count, 3, generator=random) @ waves
    shift = FLOOR_SHIFT * (2 * torch.rand(count, 1, 1, generator=random) - 1)
    x = decibels.reshape(count, bands * rows, columns).cpu()
    silent = (x < AUDIBLE) * (shift + 4 * torch.randn(x.shape, generator=random))
    x = x + tilt[..., None] + silent
    middle = x.mean((1, 2), keepdim=True)
    hidden = _stretch(bands * rows, count, random)[:, :, None] | _stretch(columns, count, random)[:, None]
    return torch.where(hidden, middle, x).reshape(decibels.shape).to(decibels.device)


def _stretch(length: int, count: int, random: torch.Generator) -> Tensor:
    """For each of `count`, which of `length` places lie in one random stretch."""
    size = HIDDEN * length * torch.rand(count, 1, generator=random)
    start = (length - size) * torch.rand(count, 1, generator=random)
    place = torch.arange(length)[None]
    return (place >= start) & (place < start + size)


@torch.no_grad()
def draw_batch(encoder: AudioClip, spoken: Utterances, number: int, count: int) -> tuple[Tensor, Tensor]:
    """Spectrograms [count, bands, rows, columns] of random words, disturbed, and which pictures they name."""
    rng = np.random.default_rng([62, number])
    chosen = rng.integers(len(spoken.pictures), size=count)
    waves = np.stack([draw_waveform(rng, spoken.word(each)) for each in chosen])
    decibels = encoder.decibels(encoder.spectrogram(torch.from_numpy(waves)[:, None].to(device())))[:, 0]
    pictures = torch.from_numpy(spoken.pictures[chosen]).to(device())
    return disturbed(decibels, torch.Generator().manual_seed(number)), pictures


def features(encoder: AudioClip, decibels: Tensor) -> Tensor:
    """What `encoder.encode` gives for a recording whose two channels are this one: [B, ...] -> [B, width]."""
    return F.normalize(encoder.fc(2 * encoder.pooled(decibels)), dim=-1)


def loss(listener: Listener, spoken: Utterances, number: int) -> Tensor:
    """Cross-entropy over the pictures, by the angle between a word's feature and each picture's direction."""
    decibels, pictures = draw_batch(listener.audio, spoken, number, BATCH)
    with low_precision():
        heard = features(listener.audio, decibels.to(memory_format=torch.channels_last))
    alike = heard.float() @ F.normalize(listener.pictures.weight, dim=-1).T
    return F.cross_entropy(SHARPNESS * alike, pictures, label_smoothing=0.05)


def train(folder: Path, minutes: float, steps: int | None = None) -> None:
    """Trains (or goes on training) the audio branch; the state is `folder/audio.pt`."""
    torch.manual_seed(0)
    spoken = utterances(folder)
    listener = Listener()
    nn.utils.convert_conv2d_weight_memory_format(listener, torch.channels_last)
    stage = TrainingStage.open(listener, folder / "audio.pt", PEAK, decay=0.995)
    report(stage.run(minutes, lambda number: loss(listener, spoken, number), steps))
