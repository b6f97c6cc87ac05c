"""What both ELITE stages share: fresh mappers, and the frozen networks that they stand between."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from x2i.kernels.injected_attention.reference import injected_attention

from ..clip_vision import VisionLevels
from ..context_attention import ContextAttention, Injection, install
from ..cross_attention import cross_attention_layers
from ..elite import Mapper
from ..elite_checkpoint import EliteCheckpoint
from ..injected_text import InjectedText
from . import clip, text, unet
from .subject_views import normalised
from .training import low_precision

HIDDEN = 256


def checkpoint(kind: type[Mapper], denoiser: UNet2DConditionModel) -> EliteCheckpoint:
    """A mapper with fresh weights, and keys and values that begin as the denoiser's own."""
    made = EliteCheckpoint(kind(clip.WIDTH, text.WIDTH, HIDDEN), denoiser)
    for path, layer in cross_attention_layers(denoiser).items():
        for name, own in zip(made.names[path], (layer.to_k, layer.to_v), strict=True):
            made.layers[name.removesuffix(".weight")].load_state_dict(own.state_dict())
    return made


def slow_attention() -> AbstractContextManager[None]:
    """On CPUs the fused attention's backward pass takes several times as long as the plain one's."""
    return sdpa_kernel(SDPBackend.MATH)


@dataclass(frozen=True, slots=True)
class Frozen:
    """The networks that the mappers stand between; nothing of them is trained."""

    vision: VisionLevels
    words: InjectedText
    denoiser: UNet2DConditionModel
    processors: Mapping[str, ContextAttention]

    @classmethod
    def read(cls, folder: Path) -> "Frozen":
        """All of them as their stages left them in `folder`."""
        vision = VisionLevels(clip.vision(clip.trained(folder)))
        words = InjectedText(text.trained(folder))
        denoiser = unet.trained(folder)
        for part in (vision, words, denoiser):
            part.requires_grad_(False)
        return cls(vision, words, denoiser, install(denoiser, injected_attention))

    def condition(self, made: EliteCheckpoint, context: Tensor, injection: Injection | None) -> None:
        """Hands the denoiser's layers what its next call attends to."""
        keys, values = keys_and_values(made, context)
        for path, processor in self.processors.items():
            processor.take(keys[path], values[path], injection)


def keys_and_values(made: EliteCheckpoint, context: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Every layer's keys and values of a context [B, T, D], by the layer's path."""
    linears = {path: [made.layers[name.removesuffix(".weight")] for name in pair] for path, pair in made.names.items()}
    keys = {path: key(context) for path, (key, _) in linears.items()}
    return keys, {path: value(context) for path, (_, value) in linears.items()}


@torch.no_grad()
def levels(vision: VisionLevels, images: list[np.ndarray]) -> list[Tensor]:
    """What the mappers read of each picture."""
    with low_precision():
        return [state.float() for state in vision(normalised(images))]
