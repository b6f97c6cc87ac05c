"""Stage `few_step`: a LoRA by which the denoiser draws in a few steps without guidance.

It is distilled from the published denoiser as latent consistency models are (Luo et al. 2023, arXiv 2310.04378), as a
LoRA (arXiv 2311.05556) and at one guidance scale. The stage reads published weights alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from torch import Tensor
from transformers import CLIPTextModel
from x2i.models.stable_diffusion.base import StableDiffusion, read_stable_diffusion
from x2i.runtime.samplers.lcm import boundary_weights

from ..recipe import text, vae
from ..recipe.training import WEIGHTS, TrainingStage, averaged, device, low_precision, report
from ..recipe.unet import alphas_cumprod, draw_scenes
from ..world import vocabulary

BATCH = 16
PEAK = 6e-4
RANK = 8
TARGETS = (
    r".*\.(to_q|to_k|to_v|to_out\.0|proj_in|proj_out|ff\.net\.0\.proj|ff\.net\.2|conv1|conv2|conv_shortcut|"
    r"downsamplers\.0\.conv|upsamplers\.0\.conv|time_emb_proj)"
)
"""The layers that LCM-LoRA changes."""
GUIDANCE = 2.0
"""The scale of the teacher, which the student has built in."""
TIMESTEPS = 50
"""So many of the 1000 are distilled, evenly spaced, as diffusers' LCMScheduler expects."""
HOP = 50
"""Timesteps of one step of the teacher's solver, which draws in 20."""
HUBER = 0.001
"""Where the loss goes over from squares to distances."""
TIMESTEP_SCALING = 10.0


def build() -> UNet2DConditionModel:
    """The published denoiser, frozen, with a LoRA of RANK that wants a gradient."""
    unet = published().unet
    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=TARGETS))
    return unet


def published() -> StableDiffusion:
    """The published base, read anew."""
    return read_stable_diffusion(WEIGHTS / "sd")


def trained(folder: Path) -> UNet2DConditionModel:
    """The denoiser with its LoRA as stage `few_step` left it, averaged weights, in eval mode."""
    return averaged(build(), folder / "few_step.pt")


@dataclass(frozen=True, slots=True)
class Known:
    """The scenes' scaled latents [64, 8, 4, 16, 16], and the published text encoder."""

    latents: Tensor
    encoder: CLIPTextModel

    @classmethod
    @torch.no_grad()
    def read(cls) -> "Known":
        """Latents of every picture on every background, by the published autoencoder."""
        base = published()
        assert base.text_encoder is not None
        colours = [background.key for background in vocabulary.backgrounds()]
        model = base.vae.to(device())
        rows = [
            model.encode(vae.pixels([vocabulary.scene(key, colour) for colour in colours])).latent_dist.mean
            for key in vocabulary.picture_keys()
        ]
        return cls(torch.stack(rows) * base.scaling_factor, base.text_encoder.to(device()))


@cache
def _levels() -> tuple[Tensor, Tensor]:
    """Shares of signal and of noise at each timestep, [1000] each."""
    alphas = alphas_cumprod()
    return alphas.sqrt(), (1 - alphas).sqrt()


def _at(values: Tensor, timesteps: Tensor) -> Tensor:
    return values[timesteps].view(-1, 1, 1, 1)


def consistent(noise: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
    """The clean latents that a student's predicted noise means: the identity at timestep 0."""
    signal, spread = _levels()
    clean = (noisy - _at(spread, timesteps) * noise) / _at(signal, timesteps)
    shares = [boundary_weights(float(timestep) * TIMESTEP_SCALING) for timestep in timesteps]
    skip, out = (torch.tensor(each, device=noisy.device).view(-1, 1, 1, 1) for each in zip(*shares, strict=True))
    return skip * noisy + out * clean


@torch.no_grad()
def teachers_step(unet: UNet2DConditionModel, noisy: Tensor, timesteps: Tensor, contexts: Sequence[Tensor]) -> Tensor:
    """The latents a solver's step (DDIM) below, by the guided denoiser without its LoRA; `contexts` are those of the
    prompts and of none."""
    unet.disable_adapters()
    with low_precision():
        both = unet(torch.cat([noisy] * 2), torch.cat([timesteps] * 2), torch.cat(list(contexts))).sample.float()
    unet.enable_adapters()
    guided, unguided = both.chunk(2)
    noise = unguided + GUIDANCE * (guided - unguided)
    signal, spread = _levels()
    below = (timesteps - HOP).clamp(min=0)
    clean = (noisy - _at(spread, timesteps) * noise) / _at(signal, timesteps)
    return _at(signal, below) * clean + _at(spread, below) * noise


def loss(unet: UNet2DConditionModel, known: Known, number: int) -> Tensor:
    """How far the student's clean latents at two neighbouring timesteps are apart, on the batch of step `number`."""
    pictures, grounds, texts = draw_scenes(number)
    pictures, grounds, texts = pictures[:BATCH], grounds[:BATCH], texts[:BATCH]
    context = text.context(known.encoder, texts)
    empty = text.context(known.encoder, [""]).expand_as(context)
    latents = known.latents[pictures, grounds]
    random = torch.Generator().manual_seed(number)
    drawn = torch.randint(1, TIMESTEPS + 1, (len(latents),), generator=random)
    timesteps = (drawn * (1000 // TIMESTEPS) - 1).to(device())
    noise = torch.randn(latents.shape, generator=random).to(device())
    signal, spread = _levels()
    noisy = _at(signal, timesteps) * latents + _at(spread, timesteps) * noise
    below = (timesteps - HOP).clamp(min=0)
    with torch.no_grad(), low_precision():
        reached = teachers_step(unet, noisy, timesteps, (context, empty))
        predicted = unet(reached, below, context).sample.float()
        target = consistent(predicted, reached, below)
    with low_precision():
        predicted = unet(noisy, timesteps, context).sample.float()
    errors = (consistent(predicted, noisy, timesteps) - target) ** 2
    return ((errors + HUBER**2).sqrt() - HUBER).mean()


def train(folder: Path, minutes: float, steps: int | None = None) -> None:
    """Trains (or goes on training) the LoRA; the state is `folder/few_step.pt`."""
    torch.manual_seed(0)
    stage = TrainingStage.open(build(), folder / "few_step.pt", PEAK, decay=0.998)
    known = Known.read()
    report(stage.run(minutes, lambda number: loss(stage.module, known, number), steps))
