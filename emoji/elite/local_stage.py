"""Stage `elite_local`: one feature per patch of the subject, and keys and values for them; the words are frozen."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from x2i.models.context_attention import InjectedContext, cross_attention_layers
from x2i.models.subjects.elite import EliteCheckpoint, LocalMapper

from ..recipe import unet
from ..recipe.training import TrainingStage, averaged, device, low_precision, report
from ..world import english
from . import global_stage
from .frozen import Frozen, checkpoint, keys_and_values, slow_attention
from .shown_subjects import draw_subject, matches, shown, word_index
from .subject_latents import subject_latents

BATCH = 32
PEAK = 2e-3
SPARSITY = 1e-4
"""Weight of the patch features' mean absolute value, as the authors train."""
MATCH = 0.005
"""Weight of `unmatched`."""


def trained(folder: Path) -> EliteCheckpoint:
    """The mapper, keys and values as stage `elite_local` left them, in eval mode."""
    return averaged(checkpoint(LocalMapper, unet.build()), folder / "elite_local.pt")


def loss(frozen: Frozen, words: EliteCheckpoint, made: EliteCheckpoint, targets: Tensor, number: int) -> Tensor:
    """Weighted error of the predicted noise on the batch of step `number`, at strength 1."""
    rng = np.random.default_rng([32, number])
    rows = [draw_subject(rng) for _ in range(BATCH)]
    latents = targets[tuple(torch.tensor([row.target for row in rows]).T)].float()
    ids = english.encode([row.caption for row in rows])
    views = [row.view for row in rows]
    grid = torch.from_numpy(np.stack([shown(view).grid for view in views])).to(device())
    index = word_index(ids)
    whole, masked = frozen.sight.levels(views, masked=False), frozen.sight.levels(views, masked=True)
    with torch.no_grad(), low_precision():
        word = words.mapper(whole)[:, :1].float()
    context = frozen.words(torch.from_numpy(ids).to(device()), word, index)
    with low_precision():
        features = made.mapper(masked, grid)
        keys, values = keys_and_values(made, features)
        injection = InjectedContext(keys, values, index, torch.ones(BATCH, device=device()))
        frozen.condition(words, context, injection)
    random = torch.Generator().manual_seed(number)
    noise_levels = (1000 * torch.rand(BATCH, generator=random) ** unet.NOISE_SKEW).long().clamp(max=999).to(device())
    noise = torch.randn(latents.shape, generator=random).to(device())
    value = unet.loss(frozen.denoiser, latents, context, noise_levels, noise) + SPARSITY * features.abs().mean()
    return value + MATCH * unmatched(frozen, keys, views)


def unmatched(frozen: Frozen, keys: dict[str, Tensor], views: Sequence[tuple[int, int, int]]) -> Tensor:
    """How little the heads together attend, from each place on the subject, to the patch that shows it: -log.

    The noise tells it in the end, but so slowly that within the hour the attention stays flat.
    """
    errors = []
    for path, layer in cross_attention_layers(frozen.denoiser).items():
        query, key = frozen.queries[path].float(), keys[path].float()
        side = math.isqrt(query.shape[1])
        if side**2 < key.shape[1]:
            continue  # one place covers several patches
        q, k = (t.unflatten(-1, (layer.heads, -1)).transpose(1, 2) for t in (query, key))
        seen = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1).mean(1)
        patches, inside = (
            torch.from_numpy(np.stack(t)).to(device()) for t in zip(*(matches(v, side) for v in views), strict=True)
        )
        found = seen.gather(-1, patches.unsqueeze(-1)).squeeze(-1).clamp(min=1e-6)
        errors.append(-(found.log() * inside).sum() / inside.sum())
    return torch.stack(errors).mean()


def train(folder: Path, minutes: float, steps: int | None = None) -> None:
    """Trains (or goes on training) the local mapper; the state is `folder/elite_local.pt`."""
    torch.manual_seed(0)
    frozen = Frozen.read(folder)
    words = global_stage.trained(folder).requires_grad_(False)
    made = checkpoint(LocalMapper, frozen.denoiser)
    stage = TrainingStage.open(made, folder / "elite_local.pt", PEAK, decay=0.995)
    targets = subject_latents(folder)
    with slow_attention():
        report(stage.run(minutes, lambda number: loss(frozen, words, made, targets, number), steps))
