"""The published base, ELITE and FastComposer as denoisers of many rows at once, which one LoRA is distilled through.

A LoRA for few steps is folded into whatever denoiser a system draws with. It has to have seen what adapters add.
"""

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from peft.tuners.lora import LoraLayer
from torch import Tensor
from x2i.export.systems import elite as elite_system
from x2i.export.systems import fastcomposer as fastcomposer_system
from x2i.kernels.injected_attention.reference import injected_attention
from x2i.models.clip.injected_text import InjectedText
from x2i.models.clip.vision import VisionLevels
from x2i.models.context_attention import (
    ContextAttention,
    ContextProjection,
    InjectedContext,
    KeyValueWeights,
    install_context_attention,
)
from x2i.models.stable_diffusion.base import StableDiffusion
from x2i.models.subjects.elite import read_elite
from x2i.models.subjects.fastcomposer import read_fastcomposer

from ..elite.frozen import Sight
from ..elite.shown_subjects import draw_subject, shown, word_index
from ..eval_prompts import ALPHA
from ..fastcomposer.checkpoint import write_checkpoint
from ..fastcomposer.composer_stage import SINGLE
from ..fastcomposer.scenes import draw_scene, encode_marked
from ..fastcomposer.views import reference
from ..recipe import text
from ..recipe.training import WEIGHTS, device
from ..world import english
from ..world.subject_views import normalised

PLAIN_FROM = 1000 * ALPHA
"""FastComposer's denoiser sees the words alone from this timestep on."""


class System(Protocol):
    """A denoiser with a number of things to draw, its rows, and the scale at which it is guided."""

    unet: UNet2DConditionModel
    guidance: float

    def context(self, rows: Tensor | None, timesteps: Tensor) -> Tensor:
        """What the denoiser's next call, at these timesteps [B], is given as its context [B, T, D]: that of the rows,
        int64 [B], or of an empty prompt."""


class PlainText:
    """The base alone: captions of the vocabulary's scenes."""

    guidance = 2.0
    """Where its pictures are nearest to the scenes that they should show."""

    def __init__(self, base: StableDiffusion, count: int):
        assert base.text_encoder is not None
        rng = np.random.default_rng(70)
        captions = [text.draw_caption(rng)[2] for _ in range(count)]
        self._contexts = text.context(base.text_encoder.to(device()), [*captions, ""])
        self.unet = base.unet

    def context(self, rows: Tensor | None, timesteps: Tensor) -> Tensor:
        """As System's."""
        return self._contexts[torch.full_like(timesteps, len(self._contexts) - 1) if rows is None else rows]


class ShownSubjects:
    """ELITE: a picture of a subject, as a word and as patches in every cross-attention."""

    guidance = elite_system.GUIDANCE

    @torch.no_grad()
    def __init__(self, base: StableDiffusion, count: int):
        assert base.text_encoder is not None
        folder = WEIGHTS / "elite"
        found = read_elite(folder / "image_encoder", folder / "global_mapper.pt", folder / "local_mapper.pt", base.unet)
        rng = np.random.default_rng(71)
        drawn = [draw_subject(rng) for _ in range(count)]
        views = [each.view for each in drawn]
        sight, words = Sight(VisionLevels(found.vision)), InjectedText(base.text_encoder)
        word = found.global_mapper(sight.levels(views, masked=False))[:, :1]
        ids = english.encode([*(each.caption for each in drawn), ""])
        self._index = word_index(ids)
        spread = torch.cat([word, torch.zeros_like(word[:1])])
        self._contexts = words(torch.from_numpy(ids).to(device()), spread, self._index)
        grid = torch.from_numpy(np.stack([shown(view).grid for view in views])).to(device())
        patches = found.local_mapper(sight.levels(views, masked=True), grid)
        self._patches = torch.cat([patches, torch.zeros_like(patches[:1])])
        self._words_at, self._patches_at = (_Projected(each) for each in (found.global_weights, found.local_weights))
        self.unet = base.unet
        self._processors: dict[str, ContextAttention] = install_context_attention(self.unet, injected_attention)

    def context(self, rows: Tensor | None, timesteps: Tensor) -> Tensor:
        """As System's. The empty prompt has no patches."""
        empty = len(self._contexts) - 1
        chosen = torch.full_like(timesteps, empty) if rows is None else rows
        context = self._contexts[chosen]
        keys, values = self._words_at(context)
        strength = torch.where(chosen == empty, 0.0, elite_system.INJECTION.strength)
        # The empty prompt's index is past the end; at strength 0 any other will do.
        index = self._index[chosen].clamp(max=context.shape[1] - 1)
        injection = InjectedContext(*self._patches_at(self._patches[chosen]), index, strength)
        for path, processor in self._processors.items():
            processor.take(keys[path], values[path], injection)
        return context


class ComposedPairs:
    """FastComposer: pictures of one or two subjects, each fused with its noun, behind the run's first calls."""

    guidance = fastcomposer_system.GUIDANCE

    @torch.no_grad()
    def __init__(self, base: StableDiffusion, count: int, folder: Path):
        path = write_checkpoint(folder / "fastcomposer")
        found = read_fastcomposer(path, path.parent / "encoder", base)
        rng = np.random.default_rng(72)
        scenes = [draw_scene(rng, 1 if number % SINGLE == 0 else 2) for number in range(count)]
        ids, index = encode_marked([*(scene.caption for scene in scenes), ""])
        pictures = [reference(*key) for scene in scenes for key in (scene.subjects * 2)[:2]]
        objects = found.vision(pixel_values=normalised(pictures)).image_embeds.unflatten(0, (-1, 2))
        self._plain = found.text_encoder(input_ids=torch.from_numpy(ids).to(device())).last_hidden_state
        objects = torch.cat([objects, torch.zeros_like(objects[:1])])
        self._fused = found.postfuse(self._plain, objects, torch.from_numpy(index).to(device()))
        self.unet = found.unet

    def context(self, rows: Tensor | None, timesteps: Tensor) -> Tensor:
        """As System's: the words alone from PLAIN_FROM on."""
        chosen = torch.full_like(timesteps, len(self._plain) - 1) if rows is None else rows
        plain = (timesteps >= PLAIN_FROM).view(-1, 1, 1)
        return torch.where(plain, self._plain[chosen], self._fused[chosen])


class _Projected:
    """A context's keys and values by the layer's path."""

    def __init__(self, weights: KeyValueWeights):
        self._project = ContextProjection(weights).to(device())
        self._paths = tuple(weights)

    def __call__(self, context: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        found = self._project(context)
        half = len(self._paths)
        return dict(zip(self._paths, found[:half], strict=True)), dict(zip(self._paths, found[half:], strict=True))


def share_lora(student: UNet2DConditionModel, other: UNet2DConditionModel) -> None:
    """Makes the student's LoRA that of another denoiser, which has one of the same layers and rank: it is trained
    through both."""
    for path, layer in student.named_modules():
        if isinstance(layer, LoraLayer):
            twin = other.get_submodule(path)
            twin.lora_A, twin.lora_B = layer.lora_A, layer.lora_B
