"""Stage `ddcap`: a small DDCap, vision tower included, which says what a picture shows and on which colour."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from x2i.models.token_transformers.ddcap import HIDDEN, Ddcap, DdcapSizes, time_embedding

from ..recipe.training import TrainingStage, averaged, device, report
from ..world import vocabulary
from ..world.captions import caption
from ..world.subject_views import normalised
from . import caption_words
from . import tokenizer_stage as tokenizer
from .caption_judge import held_out

BATCH = 64
PEAK = 1.5e-3
BLIND_SHARE = 0.1
DRAWN_SHARE = 0.4
MOST_MOVED = 3
NOISE = 6.0
LENGTH_WEIGHT = 0.2
PATCH = 8
WIDTH = 96
VISION_WIDTH = 64


def sizes() -> DdcapSizes:
    """About 0.7 M parameters; a picture is 64 patches."""
    return DdcapSizes(
        width=WIDTH,
        inner=4 * WIDTH,
        layers=2,
        heads=4,
        vocab=caption_words.words().get_vocab_size(),
        positions=caption_words.POSITIONS,
        tokens=caption_words.POSITIONS,
        vision_width=VISION_WIDTH,
        vision_layers=3,
        patch=PATCH,
        grid=vocabulary.CANVAS // PATCH,
        embed=VISION_WIDTH,
        project_hidden=WIDTH // 2,
        length_hidden=WIDTH // 2,
    )


def build() -> Ddcap:
    """The whole model with weights drawn anew."""
    model = Ddcap(sizes())
    for name, value in model.named_parameters():
        if value.ndim > 1 or name == "bos_embedding" or name.endswith("class_embedding"):
            nn.init.normal_(value, std=0.05)
        elif name.endswith("bias"):
            nn.init.zeros_(value)
    return model


def trained(folder: Path) -> Ddcap:
    """The model as stage `ddcap` left it, averaged weights, in eval mode."""
    return averaged(build(), folder / "ddcap.pt")


class Scenes:
    """Every picture on every background, uint8 [64, 8, 64, 64, 3]: as it is, and as the tokenizer draws it."""

    def __init__(self, folder: Path):
        colours = [each.key for each in vocabulary.backgrounds()]
        self.real = np.stack([[vocabulary.scene(key, each) for each in colours] for key in vocabulary.picture_keys()])
        model = tokenizer.trained(folder)
        self.drawn = np.stack([tokenizer.decoded(model, tokenizer.tokens(list(row))) for row in self.real])

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        """A picture that is not held out, a little moved and noisy, and its caption."""
        picture, ground = int(rng.integers(len(self.real))), int(rng.integers(self.real.shape[1] - 1))
        ground += ground >= held_out(picture)
        kept = self.drawn if rng.random() < DRAWN_SHARE else self.real
        image = np.pad(kept[picture, ground], ((MOST_MOVED, MOST_MOVED), (MOST_MOVED, MOST_MOVED), (0, 0)), "edge")
        top, left = rng.integers(0, 2 * MOST_MOVED + 1, 2)
        image = image[top : top + vocabulary.CANVAS, left : left + vocabulary.CANVAS]
        noisy = image + rng.uniform(0, NOISE) * rng.standard_normal(image.shape)
        written = caption("English", vocabulary.picture_keys()[picture], vocabulary.backgrounds()[ground].key)
        return np.clip(np.round(noisy), 0, 255).astype(np.uint8), written


def logits(model: Ddcap, tokens: Tensor, timestep: Tensor, condition: Tensor) -> Tensor:
    """[n, 20, vocabulary] of tokens int64 [n, 20], where the mask's id stands for what is not revealed, and a picture's
    condition [n, 64, 96]. What CaptionDenoiser looks up of a timestep's norms is computed here, to be trained."""
    gpt: Any = model.transformer
    masked = tokens == model.sizes.mask_id
    words = gpt.wte(tokens.clamp(max=model.sizes.vocab - 1))
    h = torch.where(masked[..., None], model.bos_embedding, words) + gpt.wpe.weight
    own = torch.eye(tokens.shape[1], dtype=torch.bool, device=tokens.device)
    added = torch.where(masked[:, None] & ~own, HIDDEN, 0.0)[:, None]
    times = time_embedding(model.sizes.time_rows, model.sizes.width).to(tokens.device)
    for block in gpt.h:
        key, value = block.crossattention["c_attn"](condition).chunk(2, -1)
        h = block(h, block.norms(times)[timestep].split(1, dim=1), key, value, added)
    return F.linear(gpt.ln_f(h), gpt.wte.weight)


def revealed(tokens: Tensor, lengths: Tensor, mask: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """What a caption's tokens [n, 20] look like in the midst of sampling, and the timestep [n] of that moment.

    Of each row's length some tokens are revealed, none to all but one; the timestep goes down with them from 19.
    """
    count = (torch.rand(len(tokens), generator=random) * lengths).long()
    order = torch.rand(tokens.shape, generator=random)
    order[torch.arange(tokens.shape[1]) >= lengths[:, None]] = 2
    shown = order.argsort(1).argsort(1) < count[:, None]
    timestep = (lengths - count) * caption_words.POSITIONS // lengths
    return torch.where(shown, tokens, mask), timestep.clamp(max=caption_words.POSITIONS - 1)


def loss(model: Ddcap, pixels: Tensor, tokens: Tensor, lengths: Tensor, random: torch.Generator) -> Tensor:
    """Cross-entropy of the hidden tokens and of the length, of pixels [n, 3, 64, 64] as CLIP takes them and captions as
    `caption_words.encode` writes them. Some rows go without their picture."""
    seen, timestep = revealed(tokens, lengths, model.sizes.mask_id, random)
    patches, embedding = model.clip_model["visual"](pixels)
    blind = torch.rand(len(tokens), generator=random) < BLIND_SHARE
    condition = torch.where(
        blind[:, None, None].to(pixels.device), model.pad_embedding, model.clip_project["model"](patches)
    )
    asked = (seen == model.sizes.mask_id) & (tokens < model.sizes.vocab)
    found = logits(model, seen.to(pixels.device), timestep.to(pixels.device), condition)
    named = F.cross_entropy(found[asked.to(pixels.device)], tokens[asked].to(pixels.device))
    counted = F.cross_entropy(model.len_head["model"](embedding), (lengths - 1).to(pixels.device))
    return named + LENGTH_WEIGHT * counted


def train(folder: Path, minutes: float, steps: int | None = None) -> None:
    """Trains (or goes on training) the captioner; the state is `folder/ddcap.pt`."""
    torch.manual_seed(0)
    stage = TrainingStage.open(build(), folder / "ddcap.pt", PEAK)
    scenes = Scenes(folder)

    model: Any = stage.module

    def of_step(number: int) -> Tensor:
        rng = np.random.default_rng([24, number])
        images, texts = zip(*(scenes.draw(rng) for _ in range(BATCH)), strict=True)
        ids, lengths = map(torch.from_numpy, caption_words.encode(list(texts)))
        pixels = normalised(list(images)).to(device())
        return loss(model, pixels, ids, lengths, torch.Generator().manual_seed(number))

    report(stage.run(minutes, of_step, steps))
