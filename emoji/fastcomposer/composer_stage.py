"""Stage `fastcomposer`: denoiser, fusion and the image encoder's end learn to draw one or two shown subjects."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from x2i.models.subjects.fastcomposer import Postfuse

from ..recipe import text, unet, vae
from ..recipe.training import TrainingStage, averaged, device, low_precision, report
from . import objects_stage
from .attention import SeenAttention, misplaced, watch
from .objects_stage import Look, unlike
from .scenes import Scene, draw_scene, encode_marked
from .views import fresh_encoder, objects, states, thaw

SCENES = 16000
"""Different scenes in all. Each is encoded once, when it is first drawn."""
SINGLE = 8
"""One scene in so many has a single subject, the others have two."""
SUBJECTS = 27
"""Rows of one batch with a prompt and subjects."""
PLAIN = 5
"""How many of these are drawn from the text alone, as the first calls of a run are; they see much noise only."""
PLAIN_FROM = 400
KNOWN = 2
"""Rows of the vocabulary's scenes by name, which keep the denoiser's words what they were."""
EMPTY = 3
"""Rows of such scenes without any prompt, a tenth of the batch as the authors drop the condition."""
PEAK = 1.2e-3
PLACE = 0.01
"""Weight of `misplaced`. The authors' is 1e-3 beside an unweighted loss, for a hundred times as many steps."""
LOOK = 0.05
"""Weight of how far objects are from telling what their subjects look like."""
FROZEN = ("down_blocks.2.", "mid_block.resnets.1.", "up_blocks.0.resnets.0.")
"""Parts of the denoiser that stay the base's, so that what is published beside the base stays small. They work on
4 x 4 places, where there is only a layout."""


class Composer(nn.Module):
    """Everything that is trained, under the names of FastComposer's checkpoint, and the reader of thumbnails."""

    def __init__(self, look: Look, denoiser: UNet2DConditionModel):
        super().__init__()
        self.image_encoder, self.thumbnail = look.encoder, look.thumbnail
        self.postfuse_module = Postfuse(text.WIDTH)
        self.unet = denoiser


def trained(folder: Path) -> Composer:
    """The networks as stage `fastcomposer` left them, averaged weights, in eval mode."""
    return averaged(Composer(Look(fresh_encoder()), unet.build()), folder / "fastcomposer.pt")


def untrained(folder: Path) -> Composer:
    """The networks to begin with; what is trained of them wants a gradient."""
    look, denoiser = objects_stage.trained(folder), unet.trained(folder)
    thaw(look.encoder)
    for name, parameter in denoiser.named_parameters():
        parameter.requires_grad_(not name.startswith(FROZEN))
    return Composer(look, denoiser)


class World:
    """What the batches are drawn from: nothing of it is trained."""

    def __init__(self, folder: Path):
        self.known, self._scale = unet.cached_latents(folder)
        self.seen = states(folder)
        self._words = text.trained(folder)
        self._autoencoder = vae.trained(folder).to(memory_format=torch.channels_last)
        self._kept: dict[int, Tensor] = {}

    @torch.no_grad()
    def latents(self, numbers: Sequence[int]) -> Tensor:
        """Scaled latents of scenes, [n, 4, 16, 16], each computed once and kept."""
        new = sorted(set(numbers) - set(self._kept))
        if new:
            with low_precision():
                pixels = vae.pixels([scene(number).drawn() for number in new])
                found = self._autoencoder.encode(pixels).latent_dist.mean.float() * self._scale
            self._kept.update(zip(new, found, strict=True))
        return torch.stack([self._kept[number] for number in numbers])

    @torch.no_grad()
    def context(self, ids: Tensor) -> Tensor:
        """The text-only context [B, T, E]."""
        return self._words(input_ids=ids).last_hidden_state


@cache
def scene(number: int) -> Scene:
    """The scene of a number, the same in every run: one subject in every SINGLE-th, else two."""
    return draw_scene(np.random.default_rng([43, number]), 1 if number % SINGLE == 0 else 2)


def loss(world: World, made: Composer, watched: Mapping[str, SeenAttention], number: int) -> Tensor:
    """Weighted error of the predicted noise on the batch of step `number`, and how far the attention is misplaced."""
    rng = np.random.default_rng([44, number])
    numbers = [int(x) for x in rng.integers(0, SCENES, SUBJECTS + EMPTY)]
    scenes = [scene(each) for each in numbers[:SUBJECTS]]
    known = [text.draw_caption(rng) for _ in range(KNOWN)]
    latents = torch.cat([world.latents(numbers), torch.stack([world.known[picture, at] for picture, at, _ in known])])
    prompts = [*(each.caption for each in scenes), *[""] * EMPTY, *(caption for *_, caption in known)]
    ids, index = (torch.from_numpy(array).to(device()) for array in encode_marked(prompts))
    plain = rng.permutation(SUBJECTS)[:PLAIN]
    keys = [subject for each in scenes for subject in (each.subjects * 2)[:2]]
    with low_precision():
        found = objects(made.image_encoder, world.seen[tuple(torch.tensor(keys).T)].float())
        context = _fused(made.postfuse_module, world.context(ids), found, _without(index, plain))
        look = unlike(made.thumbnail(found), keys)
    random = torch.Generator().manual_seed(number)
    levels = 1000 * torch.rand(len(ids), generator=random) ** unet.NOISE_SKEW
    levels[plain] = PLAIN_FROM + (1 - PLAIN_FROM / 1000) * levels[plain]
    noise = torch.randn(latents.shape, generator=random).to(device())
    value = unet.loss(made.unet, latents, context, levels.long().clamp(max=999).to(device()), noise)
    return value + PLACE * misplaced(watched, index[:SUBJECTS], _masks(scenes)) + LOOK * look


def _without(index: Tensor, rows: np.ndarray) -> Tensor:
    """The index of objects with none in some rows."""
    return index.index_fill(0, torch.from_numpy(rows).to(index.device), -1)


def _fused(postfuse: Postfuse, context: Tensor, found: Tensor, index: Tensor) -> Tensor:
    """The context [B, T, E] with two objects for each of its first rows in it, where the index has them."""
    rows = found.unflatten(0, (-1, 2)).to(context.dtype)
    rows = torch.cat([rows, rows.new_zeros(len(context) - len(rows), *rows.shape[1:])])
    return postfuse(context, rows, index).float()


def _masks(scenes: Sequence[Scene]) -> Tensor:
    """Every subject's mask, [scenes, 2, 64, 64]; one alone stands there twice."""
    masks = [np.stack((scene.masks() * 2)[:2]) for scene in scenes]
    return torch.from_numpy(np.stack(masks)).float().to(device())


def train(folder: Path, minutes: float, steps: int | None = None) -> None:
    """Trains (or goes on training) the three networks; the state is `folder/fastcomposer.pt`."""
    torch.manual_seed(0)
    world, made = World(folder), untrained(folder)
    made.image_encoder.set_attn_implementation("eager")
    stage = TrainingStage.open(made, folder / "fastcomposer.pt", PEAK, decay=0.998)
    watched = watch(made.unet)
    report(stage.run(minutes, lambda number: loss(world, made, watched, number), steps))
