"""MelGAN: a mel spectrogram to a waveform, its weight norms folded into plain convolutions.

Keys are those of its checkpoints. Source: MelGAN (arXiv 1910.06711) and the generator of its code, as SpecVQGAN and
Diffsound publish it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, read_all
from ..readers.config_reader import ConfigReader
from ..readers.given_files import given_yaml
from ..readers.loading import build_module, load_strictly
from ..readers.tensors import read_tensors

RATIOS = (8, 8, 2, 2)
"""How many times longer each stage makes the sound; its code has them as constants."""
SETTINGS_FILE = "args.yml"
SLOPE = 0.2
"""Of a leaky ReLU below 0."""
WEIGHT, LENGTH, DIRECTION = ".weight", ".weight_g", ".weight_v"


@dataclass(frozen=True, slots=True)
class MelganSettings:
    """`mels` bands to one sample channel; the last stage has `width` channels, each before it twice as many, and
    `blocks` residual blocks behind it, of dilations 1, 3, 9..."""

    mels: int
    width: int
    blocks: int

    @property
    def hop(self) -> int:
        """Samples of one frame."""
        return math.prod(RATIOS)


class DilatedBlock(nn.Module):
    """A convolution of 3 with a dilation, one of 1, and one of 1 around both: [B, C, n] -> the same. It continues the
    sound beyond its ends by its reflection, for which it needs more samples than its dilation."""

    def __init__(self, channels: int, dilation: int):
        super().__init__()
        self.block = nn.Sequential(
            nn.LeakyReLU(SLOPE),
            nn.ReflectionPad1d(dilation),
            nn.Conv1d(channels, channels, 3, dilation=dilation),
            nn.LeakyReLU(SLOPE),
            nn.Conv1d(channels, channels, 1),
        )
        self.shortcut = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.block(x)


class Melgan(nn.Module):
    """mel float32 [B, mels, frames], about 0..1 -> waveform float32 [B, frames * 256] in -1..1."""

    def __init__(self, settings: MelganSettings):
        super().__init__()
        self.settings = settings
        widths = [settings.width * 2**level for level in range(len(RATIOS), -1, -1)]
        layers: list[nn.Module] = [nn.ReflectionPad1d(3), nn.Conv1d(settings.mels, widths[0], 7)]
        for ratio, wide, narrow in zip(RATIOS, widths, widths[1:], strict=False):
            padding = ratio // 2 + ratio % 2
            layers += [
                nn.LeakyReLU(SLOPE),
                nn.ConvTranspose1d(wide, narrow, 2 * ratio, ratio, padding, output_padding=ratio % 2),
                *(DilatedBlock(narrow, 3**number) for number in range(settings.blocks)),
            ]
        layers += [nn.LeakyReLU(SLOPE), nn.ReflectionPad1d(3), nn.Conv1d(widths[-1], 1, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, mel: Tensor) -> Tensor:
        return self.model(mel)[:, 0]


def read_melgan(path: Path) -> Melgan:
    """The generator of a published file, in eval mode and float32, with the settings of the args.yml beside it.

    That holds a Python object, of which nothing is made. Raises CheckpointError with all that is wrong.
    """
    settings, tensors = read_all(
        lambda: read_melgan_settings(path.with_name(SETTINGS_FILE)), lambda: read_tensors(path)
    )
    melgan = build_module(lambda: Melgan(settings), str(path.with_name(SETTINGS_FILE)))
    load_strictly(melgan, folded_weights(tensors), source=str(path))
    return melgan


def read_melgan_settings(path: Path) -> MelganSettings:
    """The sizes in an args.yml, in which the other settings are of the training; CheckpointError for what is odd."""
    read = ConfigReader(given_yaml(path, objects=True), str(path))
    settings = MelganSettings(read.count("n_mel_channels"), read.count("ngf"), read.count("n_residual_layers"))
    if read.problems:
        raise CheckpointError(*read.problems)
    return settings


def folded_weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint's tensors with each weight norm, a length `weight_g` for every entry of the first axis and a
    direction `weight_v`, as the one `weight` that they stand for, in float32.

    The first axis of a transposed convolution is that of its inputs. Pairs that do not fit stay as they are.
    """
    folded = {}
    for key, value in tensors.items():
        stem = key.removesuffix(LENGTH).removesuffix(DIRECTION)
        length, direction = tensors.get(stem + LENGTH), tensors.get(stem + DIRECTION)
        if key == stem or length is None or direction is None or not _is_norm(length, direction):
            folded[key] = value
        elif key.endswith(DIRECTION):
            axes = tuple(range(1, direction.ndim))
            norms = torch.linalg.vector_norm(direction.float(), dim=axes, keepdim=True)
            folded[stem + WEIGHT] = direction.float() * (length.float() / norms)
    return folded


def _is_norm(length: Tensor, direction: Tensor) -> bool:
    """Whether there is a length for each entry of a direction's first axis, both of real numbers."""
    if length.is_complex() or direction.is_complex():
        return False
    return direction.ndim > 1 and length.shape == (len(direction), *[1] * (direction.ndim - 1))
