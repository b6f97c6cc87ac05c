"""Latents of every training subject on every background, drawn once and kept in a file: what `elite` stages aim at."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from ..recipe import unet, vae
from ..recipe.training import device, low_precision
from ..world import subjects, vocabulary
from ..world.scenes import PICTURE, composite, wide_pictures
from ..world.subject_views import tile_of

EDGE = (vocabulary.CANVAS - PICTURE) // 2


@dataclass(frozen=True, slots=True)
class LatentView:
    """How a subject is changed, in what the encoder is shown and in the target alike: mirrored, colours swapped."""

    flipped: bool
    channels: tuple[int, int, int]


PLAIN = LatentView(False, (0, 1, 2))
LATENT_VIEWS = (PLAIN, LatentView(True, (0, 1, 2)), LatentView(False, (2, 0, 1)), LatentView(True, (1, 2, 0)))
"""1,200 subjects are few; with mirrored and recoloured ones a mapper must look rather than recognise."""


@cache
def characters() -> tuple[str, ...]:
    """Every emoji of the font but the held-out ones."""
    return tuple(c for c in wide_pictures() if c not in subjects.characters())


@torch.no_grad()
def subject_latents(folder: Path) -> Tensor:
    """Scaled latents, float16 [subjects, variants, backgrounds, 4, 16, 16], kept in `folder/subject_latents.pt`."""
    path = folder / "subject_latents.pt"
    if not path.exists():
        _, scale = unet.cached_latents(folder)
        model = vae.trained(folder).to(memory_format=torch.channels_last)
        rows = [torch.stack([_latents(model, c, variant) for variant in LATENT_VIEWS]) for c in characters()]
        torch.save((torch.stack(rows) * scale).half(), path)
    return torch.load(path, map_location=device(), weights_only=True)


def _latents(model: AutoencoderKL, character: str, variant: LatentView) -> Tensor:
    tile = tile_of(wide_pictures()[character], PICTURE, variant.flipped, variant.channels)
    images = [composite(tile, np.asarray(ground.rgb), EDGE, EDGE) for ground in vocabulary.backgrounds()]
    with low_precision():
        return model.encode(vae.pixels(images)).latent_dist.mean.float()
