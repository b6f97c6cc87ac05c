"""Stage `vae`: the autoencoder, trained on the whole emoji font so that it also draws what the vocabulary lacks."""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch.nn import functional as F

from ..world import scenes, vocabulary
from .training import TrainingStage, averaged, device, low_precision, report

BATCH = 12
PEAK = 1.5e-3
VOCABULARY_SHARE = 0.8
KL_WEIGHT = 1e-4
THUMBNAIL_WEIGHT = 0.25


def build() -> AutoencoderKL:
    """f = 4, 4 latent channels, about 1.6 M parameters."""
    return AutoencoderKL(
        block_out_channels=(32, 64, 96),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=16,
        sample_size=vocabulary.CANVAS,
    )


def draw(rng: np.random.Generator) -> np.ndarray:
    """One training scene, uint8 [64, 64, 3]: the vocabulary as it is, or any emoji at any place and size."""
    named = vocabulary.backgrounds()
    colour = np.asarray(named[rng.integers(len(named))].rgb, np.float32)
    if rng.random() < VOCABULARY_SHARE:
        tiles = vocabulary.pictures()
        index = rng.integers(len(tiles))
        return vocabulary.on_colour(tiles[index : index + 1], colour)[0]
    if rng.random() < 0.5:
        colour = rng.uniform(0, 255, 3).astype(np.float32)
    glyphs = scenes.wide_set()
    size = int(rng.integers(40, 61))
    left, top = rng.integers(0, scenes.CANVAS - size + 1, 2)
    return scenes.composite(scenes.fitted(glyphs[rng.integers(len(glyphs))], size), colour, int(left), int(top))


def pixels(images: list[np.ndarray]) -> torch.Tensor:
    """uint8 pictures as a float batch [n, 3, h, w] in [-1, 1], channels last in memory."""
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(device())
    return (batch.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def edges(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Differences of neighbouring pixels of images [B, C, H, W], across and down."""
    return images[..., 1:] - images[..., :-1], images[..., 1:, :] - images[..., :-1, :]


def loss(model: AutoencoderKL, images: torch.Tensor) -> torch.Tensor:
    """The loss on images, float32 [B, 3, H, W] in -1..1: pixels, edges, thumbnails and the latents' divergence."""
    with low_precision():
        posterior = model.encode(images).latent_dist
        drawn = model.decode(posterior.sample()).sample
    drawn = drawn.float()
    value = F.l1_loss(drawn, images)
    for made, real in zip(edges(drawn), edges(images), strict=True):
        value = value + F.l1_loss(made, real)
    return value + KL_WEIGHT * posterior.kl().float().mean() / posterior.mean[0].numel() + _thumbnail(posterior, images)


def _thumbnail(posterior: DiagonalGaussianDistribution, images: torch.Tensor) -> torch.Tensor:
    """Ties three latent channels to the picture at a quarter of its size; untied, two of the four die and with them
    half of the colours."""
    return THUMBNAIL_WEIGHT * F.l1_loss(posterior.mean[:, :3].float(), F.avg_pool2d(images, 4))


def trained(folder: Path) -> AutoencoderKL:
    """The autoencoder as stage `vae` left it, averaged weights, in eval mode."""
    return averaged(build(), folder / "vae.pt")


def train(folder: Path, minutes: float, steps: int | None = None) -> None:
    """Trains (or goes on training) the autoencoder; the state is `folder/vae.pt`."""
    torch.manual_seed(0)
    model = build().to(memory_format=torch.channels_last)
    stage = TrainingStage.open(model, folder / "vae.pt", PEAK)

    def of_step(number: int) -> torch.Tensor:
        rng = np.random.default_rng([1, number])
        return loss(model, pixels([draw(rng) for _ in range(BATCH)]))

    report(stage.run(minutes, of_step, steps))
