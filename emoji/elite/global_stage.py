"""Stage `elite_global`: a picture's words, and keys and values that understand them; everything else stays frozen."""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from x2i.kernels.injected_attention.reference import column_mask
from x2i.models.context_attention import cross_attention_layers
from x2i.models.subjects.elite import EliteCheckpoint, GlobalMapper

from ..recipe import text, unet
from ..recipe.training import TrainingStage, averaged, device, low_precision, report
from ..world import english
from .frozen import Frozen, checkpoint, slow_attention
from .shown_subjects import draw_subject, shown, word_index
from .subject_latents import subject_latents

SUBJECTS = 26
EMPTY = 3
PLAIN = 3
"""Rows of one batch: subjects by picture, unconditional ones, and scenes of the vocabulary by name. The last keep the
backgrounds what they were."""
PEAK = 2e-3
ALL_WORDS_SHARE = 0.2
SPARSITY = 0.01
"""Weight of the words' mean absolute value, as the authors train."""
PLACE = 0.05
"""Weight of `misplaced`."""


def trained(folder: Path) -> EliteCheckpoint:
    """The mapper, keys and values as stage `elite_global` left them, in eval mode."""
    return averaged(checkpoint(GlobalMapper, unet.build()), folder / "elite_global.pt")


def loss(frozen: Frozen, made: EliteCheckpoint, targets: Tensor, vocabulary_targets: Tensor, number: int) -> Tensor:
    """Weighted error of the predicted noise on the batch of step `number`."""
    rng = np.random.default_rng([31, number])
    rows = [draw_subject(rng) for _ in range(SUBJECTS + EMPTY)]
    plain = [text.draw_caption(rng) for _ in range(PLAIN)]
    latents = torch.cat(
        [
            targets[tuple(torch.tensor([row.target for row in rows]).T)].float(),
            torch.stack([vocabulary_targets[picture, ground] for picture, ground, _ in plain]),
        ]
    )
    captions = [*(row.caption for row in rows[:SUBJECTS]), *[""] * EMPTY, *(caption for _, _, caption in plain)]
    ids = english.encode(captions)
    seen = frozen.sight.levels([row.view for row in rows], masked=False)
    count = 5 if rng.random() < ALL_WORDS_SHARE else 1
    with low_precision():
        words = made.mapper(seen)[:, :count].float()
    spread = torch.cat([words, words.new_zeros(PLAIN, *words.shape[1:])])
    random = torch.Generator().manual_seed(number)
    noise_levels = (1000 * torch.rand(len(ids), generator=random) ** unet.NOISE_SKEW).long().clamp(max=999).to(device())
    noise = torch.randn(latents.shape, generator=random).to(device())
    index = word_index(ids)
    context = frozen.words(torch.from_numpy(ids).to(device()), spread, index)
    with low_precision():
        keys = frozen.condition(made, context, None)
    value = unet.loss(frozen.denoiser, latents, context, noise_levels, noise) + SPARSITY * words.abs().mean()
    masks = np.stack([shown((*row.view[:2], 0)).mask for row in rows[:SUBJECTS]])
    return value + PLACE * misplaced(frozen, keys, index[:SUBJECTS], torch.from_numpy(masks).float().to(device()))


def misplaced(frozen: Frozen, keys: dict[str, Tensor], index: Tensor, masks: Tensor) -> Tensor:
    """How far the placeholder's attention over its maximum is from the target's mask [B, 64, 64], squared.

    It weights what the local mapper adds later. Left alone it peaks in a few places, and little of the patches passes.
    """
    errors = []
    for path, layer in cross_attention_layers(frozen.denoiser).items():
        query, key = frozen.queries[path][: len(index)].float(), keys[path][: len(index)].float()
        q, k = (t.unflatten(-1, (layer.heads, -1)).transpose(1, 2) for t in (query, key))
        gate = column_mask((q @ k.mT * q.shape[-1] ** -0.5).softmax(-1), index).squeeze(-1)
        side = math.isqrt(gate.shape[-1])
        wanted = F.adaptive_avg_pool2d(masks.unsqueeze(1), side).flatten(2)
        errors.append((gate - wanted).square().mean())
    return torch.stack(errors).mean()


def train(folder: Path, minutes: float, steps: int | None = None) -> None:
    """Trains (or goes on training) the global mapper; the state is `folder/elite_global.pt`."""
    torch.manual_seed(0)
    frozen = Frozen.read(folder)
    made = checkpoint(GlobalMapper, frozen.denoiser)
    stage = TrainingStage.open(made, folder / "elite_global.pt", PEAK, decay=0.995)
    targets, (known, _) = subject_latents(folder), unet.cached_latents(folder)
    with slow_attention():
        report(stage.run(minutes, lambda number: loss(frozen, made, targets, known, number), steps))
