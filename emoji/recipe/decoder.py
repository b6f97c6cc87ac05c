"""Stage `decoder`: the autoencoder's second half trained on alone, its encoder frozen.

The latents stay what the denoiser and the cache know, so this stage may run beside or after `unet`. A little noise on
them stands for what the denoiser leaves.
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from . import vae
from .training import TrainingStage, averaged, device, low_precision, report

BATCH = 12
PEAK = 1e-3
NOISE = 0.04


def trained(folder: Path) -> AutoencoderKL:
    """The autoencoder with the decoder as stage `decoder` left it, in eval mode."""
    return averaged(vae.build(), folder / "decoder.pt")


def opened(folder: Path) -> AutoencoderKL:
    """The autoencoder of stage `vae` with everything that shapes the latents frozen."""
    model = vae.trained(folder).to(memory_format=torch.channels_last).train()
    model.encoder.requires_grad_(False)
    model.quant_conv.requires_grad_(False)
    return model


def loss(model: AutoencoderKL, images: Tensor, noise: Tensor) -> Tensor:
    """Absolute error of the decoded pictures and of their edges; `noise` is added to the latents."""
    with low_precision():
        with torch.no_grad():
            latents = model.encode(images).latent_dist.mean + noise
        drawn = model.decode(latents).sample
    value = F.l1_loss(drawn.float(), images)
    for made, real in zip(vae.edges(drawn.float()), vae.edges(images), strict=True):
        value = value + F.l1_loss(made, real)
    return value


def train(folder: Path, minutes: float, steps: int | None = None) -> None:
    """Trains (or goes on training) the decoder; the state is `folder/decoder.pt`."""
    torch.manual_seed(0)
    model = opened(folder)
    stage = TrainingStage.open(model, folder / "decoder.pt", PEAK, decay=0.995)

    def of_step(number: int) -> Tensor:
        rng = np.random.default_rng([2, number])
        images = vae.pixels([vae.draw(rng) for _ in range(BATCH)])
        noise = torch.randn(BATCH, 4, 16, 16, generator=torch.Generator().manual_seed(number))
        return loss(model, images, NOISE * noise.to(device()))

    report(stage.run(minutes, of_step, steps))
