"""Stage `tiny_vae`: an autoencoder of a few convolutions that reads and writes the latents of the published one.

As TAESD is to Stable Diffusion's VAE. Its decoder learns the pictures of latents as the denoiser leaves them, its small
encoder the latents of pictures. The stage reads published weights alone.
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import Tensor
from torch.nn import functional as F

from ..recipe import vae
from ..recipe.training import TrainingStage, averaged, device, low_precision, report
from .lora_stage import published

BATCH = 12
PEAK = 2e-3
NOISE = 0.04
"""Deviation of what the denoiser leaves on latents of variance 1."""


def build() -> AutoencoderTiny:
    """f = 4, 4 latent channels, about 140,000 parameters, nearly all of them the decoder's."""
    return AutoencoderTiny(
        encoder_block_out_channels=(12, 12, 12),
        decoder_block_out_channels=(32, 32, 32),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(2, 1, 1),
    )


def trained(folder: Path) -> AutoencoderTiny:
    """The autoencoder as stage `tiny_vae` left it, averaged weights, in eval mode."""
    return averaged(build(), folder / "tiny_vae.pt")


def loss(tiny: AutoencoderTiny, latents: Tensor, images: Tensor, noise: Tensor) -> Tensor:
    """Absolute error of decoded pictures and of their edges, and of encoded latents. `latents` are scaled and are those
    of the `images`, float32 [B, 3, H, W] in -1..1; `noise` is added to them before they are decoded."""
    with low_precision():
        drawn, seen = tiny.decode(latents + noise).sample.float(), tiny.encode(images).latents.float()
    value = F.l1_loss(drawn, images) + F.l1_loss(seen, latents)
    for made, real in zip(vae.edges(drawn), vae.edges(images), strict=True):
        value = value + F.l1_loss(made, real)
    return value


def train(folder: Path, minutes: float, steps: int | None = None) -> None:
    """Trains (or goes on training) the autoencoder; the state is `folder/tiny_vae.pt`."""
    torch.manual_seed(0)
    stage = TrainingStage.open(build(), folder / "tiny_vae.pt", PEAK, decay=0.995)
    base = published()
    model = base.vae.to(device())

    def of_step(number: int) -> Tensor:
        rng = np.random.default_rng([6, number])
        images = vae.pixels([vae.draw(rng) for _ in range(BATCH)])
        with torch.no_grad(), low_precision():
            latents = model.encode(images).latent_dist.mean.float() * base.scaling_factor
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(number))
        return loss(stage.module, latents, images, NOISE * noise.to(device()))

    report(stage.run(minutes, of_step, steps))
