"""AudioCLIP's audio branch, from the waveform to the feature, as one module."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import CheckpointError
from ..readers.config_reader import ConfigReader
from ..readers.weights_folder import read_json
from .esresnext import ATTENTION_KERNELS, EXPANSION, ESResNeXt, FrequencyBSplines, spline_filters

SILENCE = 1e-18
"""The power that stands for 0, whose logarithm there is none of."""


@dataclass(frozen=True, slots=True)
class AudioClipSettings:
    """The sizes of an audio branch; the defaults are the released model's.

    `rate` in samples a second; `frames`, `n_fft`, `hop` and `window` in samples; `bands` is how many pictures of
    neighbouring frequencies a spectrogram is cut into; the rest as in `ESResNeXt`. `features` is the output's width.
    """

    rate: int = 44100
    frames: int = 176400
    n_fft: int = 2048
    hop: int = 561
    window: int = 1654
    bands: int = 3
    width: int = 64
    layers: tuple[int, int, int, int] = (3, 4, 6, 3)
    groups: int = 32
    group_width: int = 4
    features: int = 1024

    @property
    def rows(self) -> int:
        """Frequencies of one band; what does not fill the last band is dropped."""
        return (self.n_fft // 2 + 1) // self.bands

    @property
    def columns(self) -> int:
        """Windows that cover all frames."""
        return 1 + -(-(self.frames - self.window) // self.hop)

    @classmethod
    def from_json(cls, path: str | Path) -> "AudioClipSettings":
        """Settings as `to_json` wrote them; CheckpointError with every missing, odd or unknown one."""
        content = read_json(Path(path))
        read = ConfigReader(content, str(path))
        names = [each.name for each in fields(cls)]
        values: dict[str, Any] = {
            name: tuple(read.counts(name)) if name == "layers" else read.count(name) for name in names
        }
        problems = [
            *read.problems,
            *(
                f"{path}: expected an audio branch's settings, got {name!r} too; fix: remove it"
                for name in content
                if name not in names
            ),
        ]
        if not problems:
            problems = [f"{path}: {problem}" for problem in _misfits(values)]
        if problems:
            raise CheckpointError(*problems)
        return cls(**values)

    def to_json(self) -> str:
        """The settings as a JSON object, which `from_json` reads."""
        return json.dumps(asdict(self), indent=1)


class AudioClip(ESResNeXt):
    """Waveform float32 [B, channels, frames], int16-ranged -> features [B, 1024] of length 1.

    Every channel is seen alone and the channels' pooled vectors are summed. Key names are the released checkpoint's
    without its prefix `audio.`. The filters are a constant that is computed when weights are loaded: windowed, and
    kept out of the state. Source: AudioCLIP (arXiv 2106.13043) and its reference code.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, settings: AudioClipSettings):
        super().__init__(settings.bands, settings.width, settings.layers, settings.groups, settings.group_width)
        self.settings = settings
        self.fbsp = FrequencyBSplines(settings.n_fft)
        self.fc = nn.Linear(8 * EXPANSION * settings.width, settings.features)
        self.register_buffer("window", blackman_harris(settings.window))
        self.register_buffer("filters", self._windowed_filters(), persistent=False)
        self.register_load_state_dict_post_hook(AudioClip._refresh)

    def forward(self, waveform: Tensor) -> Tensor:
        return self.encode(self.decibels(self.spectrogram(waveform)))

    def spectrogram(self, waveform: Tensor) -> Tensor:
        """[B, channels, frames] -> real and imaginary parts [B, channels, 2, n_fft / 2 + 1, columns]."""
        kept = self.settings
        missing = (kept.columns - 1) * kept.hop + kept.window - kept.frames
        x = (waveform + 32768) * 2 / 65535 - 1
        x = functional.pad(x, (missing // 2, missing - missing // 2))
        parts = functional.conv1d(x.reshape(-1, 1, x.shape[-1]), self.filters, stride=kept.hop)
        return parts.reshape(-1, waveform.shape[1], 2, kept.n_fft // 2 + 1, kept.columns)

    def decibels(self, spectrogram: Tensor) -> Tensor:
        """Power in dB, cut into bands: [B, channels, bands, rows, columns]."""
        kept = self.settings
        power = spectrogram[:, :, :, : kept.bands * kept.rows].square().sum(2)
        power = torch.where(power == 0, SILENCE, power)
        return (10 * torch.log10(power)).unflatten(2, (kept.bands, kept.rows))

    def encode(self, decibels: Tensor) -> Tensor:
        """[B, channels, bands, rows, columns] -> features [B, 1024] of length 1."""
        pooled = self.pooled(decibels.flatten(0, 1)).unflatten(0, (-1, decibels.shape[1]))
        return functional.normalize(self.fc(pooled.sum(1)), dim=-1)

    @torch.no_grad()
    def _windowed_filters(self) -> Tensor:
        """The part of every filter that a window covers, times the window: [2 x filters, 1, window]."""
        edge = (self.settings.n_fft - self.settings.window) // 2
        inside = spline_filters(self.fbsp, self.settings.n_fft)[..., edge : edge + self.settings.window]
        return (inside * self.window.to(torch.float32)).flatten(0, 1).unsqueeze(1)

    def _refresh(self, _incompatible: object) -> None:
        self.filters = self._windowed_filters().to(self.filters.dtype)


def _misfits(values: dict[str, Any]) -> list[str]:
    """What cannot be, of settings that are well formed each by itself."""
    problems = []
    if len(values["layers"]) != len(ATTENTION_KERNELS):
        problems.append(f"expected layers of four stages, got {len(values['layers'])}; fix: give four counts")
    most = min(values["n_fft"], values["frames"])
    if values["window"] > most:
        problems.append(f"expected a window within n_fft and frames, got {values['window']}; fix: at most {most}")
    filters = values["n_fft"] // 2 + 1
    if values["bands"] > filters:
        problems.append(f"expected no more bands than the {filters} filters, got {values['bands']}; fix: give fewer")
    return problems


def blackman_harris(length: int) -> Tensor:
    """The periodic Blackman-Harris window of four terms, float32 [length]."""
    angle = 2 * torch.pi * torch.arange(length, dtype=torch.float64) / length
    terms = (0.35875, -0.48829, 0.14128, -0.01168)
    return sum((weight * torch.cos(order * angle) for order, weight in enumerate(terms)), torch.zeros(length)).float()
