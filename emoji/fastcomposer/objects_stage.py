"""Stage `fastcomposer_objects`: teaches the tower's last layers and the projection to say what a subject looks like.

CLIP's class token tells kinds of things apart, and one vector is all that FastComposer reads of a picture. Colours and
outlines get into it much faster by themselves than through the denoiser's error.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPVisionModelWithProjection

from ..elite.subject_latents import characters
from ..recipe import text
from ..recipe.training import TrainingStage, averaged, low_precision, report
from ..world.pairs import SIDE
from .scenes import tile
from .views import CHANGES, VIEWS, fresh_encoder, image_encoder, objects, states

BATCH = 128
PEAK = 2e-3
GRID = 10
"""Side of the thumbnail that is read off an object."""
SPREAD = 0.01
"""Weight of what keeps objects as large as the text encoder's vectors."""


class Look(nn.Module):
    """An image encoder and what reads a thumbnail off its object embeddings."""

    def __init__(self, encoder: CLIPVisionModelWithProjection):
        super().__init__()
        self.encoder = encoder
        self.thumbnail = nn.Linear(text.WIDTH, 4 * GRID**2)


def trained(folder: Path) -> Look:
    """The image encoder and its reader as stage `fastcomposer_objects` left them, in eval mode."""
    return averaged(Look(fresh_encoder()), folder / "fastcomposer_objects.pt")


def thumbnails(keys: Sequence[Sequence[int]]) -> Tensor:
    """Each subject at a tenth of a pair's size, opacity and colour times opacity: [n, 4 * 10 * 10], 0 to 1."""
    tiles = np.stack([tile(subject, change, SIDE) for subject, change, _ in keys]).astype(np.float32) / 255
    tiles[..., :3] *= tiles[..., 3:]
    small = tiles.reshape(len(keys), GRID, SIDE // GRID, GRID, SIDE // GRID, 4).mean((2, 4))
    return torch.from_numpy(small.reshape(len(keys), -1))


def unlike(read: Tensor, keys: Sequence[Sequence[int]]) -> Tensor:
    """How far thumbnails [n, 4 * 10 * 10] are from those of the subjects `keys`: squared error over their variance."""
    wanted = thumbnails(keys).to(read.device)
    return F.mse_loss(read.float(), wanted) / wanted.var(0, correction=0).mean().clamp(min=1e-6)


def loss(look: Look, seen: Tensor, number: int) -> Tensor:
    """How far the thumbnails of the batch of step `number` are from right, and the objects from their usual size."""
    rng = np.random.default_rng([42, number])
    keys = np.stack([rng.integers(0, count, BATCH) for count in (len(characters()), len(CHANGES), VIEWS)], 1)
    with low_precision():
        found = objects(look.encoder, seen[tuple(torch.from_numpy(keys).T)].float())
        read = look.thumbnail(found)
    return unlike(read, keys.tolist()) + SPREAD * (found.float().square().mean() - 1) ** 2


def train(folder: Path, minutes: float, steps: int | None = None) -> None:
    """Trains (or goes on training) the tower's end; the state is `folder/fastcomposer_objects.pt`."""
    torch.manual_seed(0)
    seen = states(folder)
    look = Look(image_encoder(folder))
    look.encoder.set_attn_implementation("eager")
    stage = TrainingStage.open(look, folder / "fastcomposer_objects.pt", PEAK, decay=0.995)
    report(stage.run(minutes, lambda number: loss(look, seen, number), steps))
