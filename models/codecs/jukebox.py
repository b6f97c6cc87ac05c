"""One level of Jukebox's VQ-VAE: a waveform as a row of codes, and back.

Source: Jukebox (arXiv 2005.00341) and its code, as CDCD's dance-to-music branch takes it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from ..readers.loading import build_module, load_strictly
from ..readers.tensors import describe_checkpoint

LEVELS = {"bottom": 0, "middle": 1, "top": 2}
"""What configurations call the levels, of which the top one has the longest codes."""
STRIDE, KERNEL = 2, 4
GROWTH = 3
"""Each residual block's dilation is so many times its neighbour's."""


@dataclass(frozen=True, slots=True)
class JukeboxSettings:
    """`codes` vectors of `code_width`; stages from the finest to the coarsest, stage i of `halvings[i]` halvings, each
    with `blocks` residual blocks of `width` channels, and `inner` between their convolutions."""

    codes: int
    code_width: int
    halvings: tuple[int, ...]
    blocks: int
    width: int
    inner: int

    @property
    def hop(self) -> int:
        """Samples of one code."""
        return int(STRIDE ** sum(self.halvings))


class WaveBlock(nn.Module):
    """A dilated convolution of 3 and one of 1, with its input added: [B, C, n] -> the same."""

    def __init__(self, channels: int, inner: int, dilation: int):
        super().__init__()
        self.model = nn.Sequential(
            nn.ReLU(),
            nn.Conv1d(channels, inner, 3, padding=dilation, dilation=dilation),
            nn.ReLU(),
            nn.Conv1d(inner, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.model(x)


class WaveStack(nn.Module):
    """Residual blocks whose dilations grow, or with `shrinks` become smaller."""

    def __init__(self, settings: JukeboxSettings, shrinks: bool):
        super().__init__()
        dilations = [GROWTH**number for number in range(settings.blocks)]
        dilations = dilations[::-1] if shrinks else dilations
        self.model = nn.Sequential(*(WaveBlock(settings.width, settings.inner, each) for each in dilations))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class WaveStage(nn.Module):
    """One stage: halvings, then a convolution to a code's width; or, for decoding, the reverse."""

    def __init__(self, layers: list[nn.Module]):
        super().__init__()
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class WaveEncoder(nn.Module):
    """Waveform float32 [B, 1, codes * hop] -> vectors [B, code_width, codes], through the finest stage first."""

    def __init__(self, settings: JukeboxSettings):
        super().__init__()
        width, out = settings.width, settings.code_width
        self.level_blocks = nn.ModuleList()
        for stage, count in enumerate(settings.halvings):
            inputs = [out if stage else 1, *[width] * (count - 1)]
            halvings = [
                nn.Sequential(nn.Conv1d(each, width, KERNEL, STRIDE, padding=1), WaveStack(settings, shrinks=False))
                for each in inputs
            ]
            self.level_blocks.append(WaveStage([*halvings, nn.Conv1d(width, out, 3, padding=1)]))

    def forward(self, waveform: Tensor) -> Tensor:
        for stage in self.level_blocks:
            waveform = stage(waveform)
        return waveform


class WaveDecoder(nn.Module):
    """Vectors float32 [B, code_width, codes] -> waveform [B, 1, codes * hop], through the coarsest stage first."""

    def __init__(self, settings: JukeboxSettings):
        super().__init__()
        width, out = settings.width, settings.code_width
        self.level_blocks = nn.ModuleList()
        for count in settings.halvings:
            outputs = [*[width] * (count - 1), out]
            doublings = [
                nn.Sequential(
                    WaveStack(settings, shrinks=True), nn.ConvTranspose1d(width, each, KERNEL, STRIDE, padding=1)
                )
                for each in outputs
            ]
            self.level_blocks.append(WaveStage([nn.Conv1d(out, width, 3, padding=1), *doublings]))
        self.out = nn.Conv1d(out, 1, 3, padding=1)

    def forward(self, vectors: Tensor) -> Tensor:
        for stage in reversed(self.level_blocks):
            vectors = stage(vectors)
        return self.out(vectors)


class JukeboxLevel(nn.Module):
    """A waveform to vectors and back. `codebook` is float32 [codes, code_width]; nothing holds a waveform in -1..1."""

    def __init__(self, settings: JukeboxSettings):
        super().__init__()
        self.settings = settings
        self.encoder, self.decoder = WaveEncoder(settings), WaveDecoder(settings)
        self.codebook = nn.Parameter(torch.empty(settings.codes, settings.code_width))


def load_jukebox(tensors: Mapping[str, Tensor], level: int, source: str) -> JukeboxLevel:
    """One level of the VQ-VAE's three, in eval mode and float32, from the tensors of all.

    Its sizes are the tensors'. Raises CheckpointError with every key that does not fit, where `source` names the file.
    """
    settings = _inferred(tensors, level, source)
    module = build_module(lambda: JukeboxLevel(settings), source)
    own = {"encoder": f"encoders.{level}", "decoder": f"decoders.{level}"}
    names = {key: re.sub("^(encoder|decoder)", lambda half: own[half[0]], key) for key in module.state_dict()} | {
        "codebook": f"bottleneck.level_blocks.{level}.k"
    }
    others = [
        f"{part}.{other}.*"
        for part in ("encoders", "decoders", "bottleneck.level_blocks")
        for other in LEVELS.values()
        if other != level
    ]
    load_strictly(module, tensors, source=source, ignore=others, names=names)
    return module


def _inferred(tensors: Mapping[str, Tensor], level: int, source: str) -> JukeboxSettings:
    """The sizes of one level, from the decoder's side, whose last stage is the level itself."""
    prefix = f"decoders.{level}.level_blocks"
    codebook = tensors.get(f"bottleneck.level_blocks.{level}.k")
    inner = tensors.get(f"{prefix}.0.model.1.0.model.0.model.1.weight")
    if codebook is None or codebook.ndim != 2 or inner is None or inner.ndim != 3:
        raise CheckpointError(
            f"{source}: expected Jukebox's VQ-VAE with its level {level} (keys bottleneck.level_blocks.{level}.k, "
            f"{prefix}...), got {describe_checkpoint(tensors)}; fix: give CDCD's vqvae.pt"
        )

    def count(pattern: str) -> int:
        return sum(re.fullmatch(rf"{re.escape(prefix)}\.{pattern}\.weight", key) is not None for key in tensors)

    return JukeboxSettings(
        codes=codebook.shape[0],
        code_width=codebook.shape[1],
        halvings=tuple(count(rf"{stage}\.model\.\d+\.1") for stage in range(level + 1)),
        blocks=count(r"0\.model\.1\.0\.model\.\d+\.model\.1"),
        width=inner.shape[1],
        inner=inner.shape[0],
    )
