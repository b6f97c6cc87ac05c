"""Runs of a system as it is usually drawn, in 20 guided steps."""

from itertools import pairwise

import torch
from torch import Tensor

from ..recipe.training import device, low_precision
from ..recipe.unet import alphas_cumprod
from .systems import System

VISITED = (999, 759, 499, 259)
"""The timesteps at which diffusers' LCMScheduler calls the denoiser in four steps."""
SUBSTEPS = 5
"""Calls of the teacher's solver (DDIM) from one of them to the next."""
CHUNK = 64


@torch.no_grad()
def draw_runs(system: System, count: int) -> Tensor:
    """Where the runs of rows 0 to `count` - 1 were at each of VISITED and at their end, [count, 5, C, h, w]. Each
    starts from noise of its own; the LoRA is left out."""
    size = system.unet.config.sample_size
    random = torch.Generator().manual_seed(73)
    noise = torch.randn(count, system.unet.config.in_channels, size, size, generator=random).to(device())
    rows = torch.arange(count, device=device())
    system.unet.disable_adapters()
    parts = [_run(system, *part) for part in zip(noise.split(CHUNK), rows.split(CHUNK), strict=True)]
    system.unet.enable_adapters()
    return torch.cat(parts)


def _solver_timesteps() -> list[int]:
    """VISITED, and between them and below evenly."""
    ends = [*VISITED, -1]
    return [round(start + (end - start) * part / SUBSTEPS) for start, end in pairwise(ends) for part in range(SUBSTEPS)]


def _run(system: System, latents: Tensor, rows: Tensor) -> Tensor:
    calls = _solver_timesteps()
    # Below the last call there is no noise left.
    alphas = [*alphas_cumprod()[calls], torch.ones((), device=device())]
    kept = []
    for number, timestep in enumerate(calls):
        if timestep in VISITED:
            kept.append(latents)
        noise = _guided(system, latents, rows, torch.full_like(rows, timestep))
        alpha, below = alphas[number], alphas[number + 1]
        clean = (latents - (1 - alpha).sqrt() * noise) / alpha.sqrt()
        latents = below.sqrt() * clean + (1 - below).sqrt() * noise
    return torch.stack([*kept, latents], 1)


def _guided(system: System, latents: Tensor, rows: Tensor, timesteps: Tensor) -> Tensor:
    predicted = []
    for chosen in (rows, None):
        context = system.context(chosen, timesteps)
        with low_precision():
            predicted.append(system.unet(latents, timesteps, context).sample.float())
    asked, unasked = predicted
    return unasked + system.guidance * (asked - unasked)
