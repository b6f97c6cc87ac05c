"""What both ELITE stages share: fresh mappers, and the frozen networks that they stand between."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from x2i.kernels.injected_attention.reference import injected_attention
from x2i.models.clip.injected_text import InjectedText
from x2i.models.clip.vision import VisionLevels
from x2i.models.context_attention import (
    ContextAttention,
    InjectedContext,
    cross_attention_layers,
    install_context_attention,
)
from x2i.models.subjects.elite import EliteCheckpoint, Mapper

from ..recipe import clip, text, unet
from ..recipe.training import low_precision
from ..world.subject_views import normalised
from .shown_subjects import shown

HIDDEN = 256


def checkpoint(kind: type[Mapper], denoiser: UNet2DConditionModel) -> EliteCheckpoint:
    """A mapper with fresh weights, and keys and values that begin as the denoiser's own."""
    made = EliteCheckpoint(kind(clip.WIDTH, text.WIDTH, HIDDEN), denoiser)
    for path, layer in cross_attention_layers(denoiser).items():
        for name, own in zip(made.names[path], (layer.to_k, layer.to_v), strict=True):
            made.layers[name.removesuffix(".weight")].load_state_dict(own.state_dict())
    return made


def slow_attention() -> AbstractContextManager[None]:
    """Attention in plain steps: on CPUs the fused one's backward pass takes several times as long."""
    return sdpa_kernel(SDPBackend.MATH)


class Sight:
    """What the vision tower makes of views: `levels` of whole or masked pictures, each computed once and kept."""

    def __init__(self, vision: VisionLevels):
        self._vision = vision
        self._kept: dict[tuple[bool, tuple[int, int, int]], Tensor] = {}

    @torch.no_grad()
    def levels(self, views: Sequence[tuple[int, int, int]], masked: bool) -> tuple[Tensor, ...]:
        """The five hidden states [n, 1 + patches, width] that the mappers read."""
        new = sorted({view for view in views if (masked, view) not in self._kept})
        if new:
            images = [shown(view).masked if masked else shown(view).picture for view in new]
            with low_precision(), sdpa_kernel(SDPBackend.FLASH_ATTENTION):
                states = torch.stack(self._vision(normalised(images)), 1)
            self._kept.update({(masked, view): state.half() for view, state in zip(new, states, strict=True)})
        return torch.stack([self._kept[masked, view] for view in views], 1).float().unbind()


@dataclass(frozen=True, slots=True)
class Frozen:
    """The networks that the mappers stand between; nothing of them is trained."""

    sight: Sight
    words: InjectedText
    denoiser: UNet2DConditionModel
    processors: Mapping[str, ContextAttention]
    queries: dict[str, Tensor]
    """What each cross-attention layer asked for in the denoiser's last call, [B, N, C] by path."""

    @classmethod
    def read(cls, folder: Path) -> "Frozen":
        """All of them as their stages left them in `folder`."""
        vision = VisionLevels(clip.vision(clip.trained(folder)))
        words = InjectedText(text.trained(folder))
        denoiser = unet.trained(folder)
        for part in (vision, words, denoiser):
            part.requires_grad_(False)
        for path, module in denoiser.named_modules():
            if path.endswith("attn1"):
                module.set_processor(AttnProcessor())
        queries: dict[str, Tensor] = {}
        for path, layer in cross_attention_layers(denoiser).items():
            layer.to_q.register_forward_hook(lambda *call, path=path: queries.update({path: call[2]}))
        return cls(Sight(vision), words, denoiser, install_context_attention(denoiser, injected_attention), queries)

    def condition(self, made: EliteCheckpoint, context: Tensor, injection: InjectedContext | None) -> dict[str, Tensor]:
        """Hands the denoiser's layers what its next call attends to, and returns the keys by path."""
        keys, values = keys_and_values(made, context)
        for path, processor in self.processors.items():
            processor.take(keys[path], values[path], injection)
        return keys


def keys_and_values(made: EliteCheckpoint, context: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Every layer's keys and values of a context [B, T, D], by the layer's path."""
    linears = {path: [made.layers[name.removesuffix(".weight")] for name in pair] for path, pair in made.names.items()}
    keys = {path: key(context) for path, (key, _) in linears.items()}
    return keys, {path: value(context) for path, (_, value) in linears.items()}
