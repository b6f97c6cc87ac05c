"""What CDCD's dance-to-music branch is conditioned on: a dancer's motion, a video's features and a genre, as one token.

Source: CDCD (arXiv 2206.07771) and its code. Keys are those of its checkpoints.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..codecs.melgan import SLOPE, DilatedBlock, folded_weights
from ..errors import CheckpointError
from ..readers.loading import build_module, load_strictly
from ..readers.tensors import describe_checkpoint

MOTION_PREFIX = "condition_codec_motion."
GENRES = "condition_emb.genre_embed.weight"
DILATIONS = (1, 3, 9, 27)
FIRST_KERNEL, KERNEL = 6, 4


@dataclass(frozen=True, slots=True)
class DanceSettings:
    """Sizes. `channels` are those between the motion's convolutions, its frames first and 1 last; `features` are those
    of a frame, `hidden` and `motion_width` what they become before and behind; the rest are a video's features, the
    genres, and the widths of a genre's vector and of the token."""

    features: int
    hidden: int
    channels: tuple[int, ...]
    motion_width: int
    video_width: int
    genres: int
    genre_width: int
    width: int


class MotionEncoder(nn.Module):
    """Motion float32 [B, frames, features] -> [B, 1, motion_width].

    The frames are the channels of its convolutions, which run along what became of the features.
    """

    def __init__(self, settings: DanceSettings):
        super().__init__()
        channels = settings.channels
        kernels = [FIRST_KERNEL, *[KERNEL] * (len(channels) - 2)]
        layers: list[nn.Module] = []
        for number, kernel in enumerate(kernels):
            # The first has its activation behind it, the others theirs before them.
            layers += [nn.LeakyReLU(SLOPE)] if number else []
            layers.append(nn.Conv1d(channels[number], channels[number + 1], kernel))
            layers += [] if number else [nn.LeakyReLU(SLOPE)]
            if number < len(kernels) - 1:
                layers += [DilatedBlock(channels[number + 1], each) for each in DILATIONS]
        self.lin1, self.model = nn.Linear(settings.features, settings.hidden), nn.Sequential(*layers)
        self.lin2 = nn.Linear(settings.hidden - sum(kernel - 1 for kernel in kernels), settings.motion_width)

    def forward(self, motion: Tensor) -> Tensor:
        return self.lin2(self.model(self.lin1(motion)))


class DanceCondition(nn.Module):
    """`forward(motion [B, frames, features], video [B, 1, video_width], genre int64 [B])` returns one token,
    [B, 1, width]."""

    def __init__(self, settings: DanceSettings):
        super().__init__()
        self.settings = settings
        self.motion = MotionEncoder(settings)
        self.genre_embed = nn.Embedding(settings.genres, settings.genre_width)
        widths = settings.motion_width, settings.video_width, settings.genre_width
        self.lin1 = nn.Linear(sum(widths), settings.width)

    def forward(self, motion: Tensor, video: Tensor, genre: Tensor) -> Tensor:
        return self.lin1(torch.cat([self.motion(motion), video, self.genre_embed(genre)[:, None]], dim=-1))


def load_dance(model: Mapping[str, Tensor], ema: Mapping[str, Tensor], source: str) -> DanceCondition:
    """The condition network from the two halves of a training checkpoint, in eval mode and float32.

    The averaged half, `ema`, lacks the motion encoder, which only `model` has; what `model` has of the rest is not what
    its authors draw with. Sizes are the tensors'. Raises CheckpointError with every key that does not fit.
    """
    own = {key: value for key, value in model.items() if key.startswith(MOTION_PREFIX)}
    own = folded_weights(own) | {
        key: value for key, value in ema.items() if key.startswith(("condition_emb.", "lin1."))
    }
    settings = _inferred(own, source)
    module = build_module(lambda: DanceCondition(settings), source)
    names = {f"motion.{key}": MOTION_PREFIX + key for key in module.motion.state_dict()}
    load_strictly(module, own, source=source, names=names | {"genre_embed.weight": GENRES})
    return module


def _inferred(tensors: Mapping[str, Tensor], source: str) -> DanceSettings:
    """The sizes of the network, from its tensors."""
    matrices = [f"{MOTION_PREFIX}lin1.weight", f"{MOTION_PREFIX}lin2.weight", GENRES, "lin1.weight"]
    convolutions = sorted(
        (int(found[1]), tuple(value.shape))
        for key, value in tensors.items()
        if (found := re.fullmatch(rf"{re.escape(MOTION_PREFIX)}model\.(\d+)\.weight", key)) and value.ndim == 3
    )
    absent = [key for key in matrices if key not in tensors or tensors[key].ndim != 2]
    if absent or not convolutions:
        raise CheckpointError(
            f"{source}: expected CDCD's dance-to-music checkpoint (its condition's keys {', '.join(matrices)}), got "
            f"{describe_checkpoint(tensors) if tensors else 'none of them'}; fix: give its last.pth"
        )
    (hidden, features), (motion_width, _), (genres, genre_width), (width, inputs) = (
        tensors[key].shape for key in matrices
    )
    return DanceSettings(
        features=features,
        hidden=hidden,
        channels=(convolutions[0][1][1], *(shape[0] for _, shape in convolutions)),
        motion_width=motion_width,
        video_width=inputs - motion_width - genre_width,
        genres=genres,
        genre_width=genre_width,
        width=width,
    )
