"""Stage `unet`: the denoiser, trained on the cached latents of the vocabulary's scenes and the frozen text encoder."""

from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F

from ..world import vocabulary
from . import text, vae
from .training import TrainingStage, averaged, device, low_precision, report

BATCH = 32
PEAK = 1.2e-3
EMPTY_SHARE = 0.12
NOISE_SKEW = 0.7
SNR_GAMMA = 5.0
SNR_BOOST = 4.0


def build() -> UNet2DConditionModel:
    """About 5 M parameters over 16 x 16 latents."""
    return UNet2DConditionModel(
        sample_size=vocabulary.CANVAS // 4,
        block_out_channels=(48, 96, 144),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=text.WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def trained(folder: Path) -> UNet2DConditionModel:
    """The denoiser as stage `unet` left it, averaged weights, in eval mode."""
    return averaged(build(), folder / "unet.pt")


def alphas_cumprod() -> Tensor:
    """Stable Diffusion v1's schedule, [1000]."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0).float().to(device())


def weights(alphas: Tensor) -> Tensor:
    """Loss weight at each noise level: min-SNR at the clean end (arXiv 2303.09556), and more where only noise is seen.

    The background is decided there, and plain epsilon loss hardly notices it: an error of 1 in the picture is an error
    of sqrt(SNR) in the noise.
    """
    snr = alphas / (1 - alphas)
    return snr.clamp(max=SNR_GAMMA) / snr * snr.rsqrt().clamp(1.0, SNR_BOOST)


@torch.no_grad()
def cached_latents(folder: Path) -> tuple[Tensor, float]:
    """Latents of every picture on every background, [64, 8, 4, 16, 16], scaled to unit variance, and the scale."""
    model = vae.trained(folder)
    colours = [background.key for background in vocabulary.backgrounds()]
    rows = [
        model.encode(vae.pixels([vocabulary.scene(key, colour) for colour in colours])).latent_dist.mean
        for key in vocabulary.picture_keys()
    ]
    latents = torch.stack(rows)
    scale = float(1 / latents.std())
    return latents * scale, scale


def draw_scenes(number: int) -> tuple[list[int], list[int], list[str]]:
    """Picture and background indices of one batch, and a caption for each scene, sometimes an empty one."""
    rng = np.random.default_rng([4, number])
    pictures, grounds, texts = zip(*(text.draw_caption(rng) for _ in range(BATCH)), strict=True)
    return list(pictures), list(grounds), ["" if rng.random() < EMPTY_SHARE else written for written in texts]


def loss(model: nn.Module, latents: Tensor, context: Tensor, levels: Tensor, noise: Tensor) -> Tensor:
    """Weighted error of the predicted noise; `levels` holds each sample's timestep."""
    alphas = alphas_cumprod()
    alpha = alphas[levels].view(-1, 1, 1, 1)
    noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
    with low_precision():
        predicted = model(noisy, levels, context).sample
    errors = F.mse_loss(predicted.float(), noise, reduction="none").mean((1, 2, 3))
    return (errors * weights(alphas)[levels]).mean()


def train(folder: Path, minutes: float, steps: int | None = None) -> None:
    """Trains (or goes on training) the denoiser; the state is `folder/unet.pt`."""
    torch.manual_seed(0)
    stage = TrainingStage.open(build(), folder / "unet.pt", PEAK)
    latents, _ = cached_latents(folder)
    encoder = text.trained(folder)

    def of_step(number: int) -> Tensor:
        pictures, grounds, texts = draw_scenes(number)
        random = torch.Generator().manual_seed(number)
        levels = (1000 * torch.rand(BATCH, generator=random) ** NOISE_SKEW).long().clamp(max=999).to(device())
        noise = torch.randn(BATCH, *latents.shape[2:], generator=random).to(device())
        return loss(stage.module, latents[pictures, grounds], text.context(encoder, texts), levels, noise)

    report(stage.run(minutes, of_step, steps))
