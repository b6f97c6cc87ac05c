"""Stage `few_step`: a LoRA by which the denoiser draws in a few steps without guidance.

It is a LoRA as latent consistency models have it (arXiv 2311.05556), sampled as they are (Luo et al. 2023, arXiv
2310.04378). The base, ELITE and FastComposer share it: each is drawn in 20 guided steps, and the student learns to say
from points on the way where such a run ends. The stage reads published weights alone.
"""

from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from peft import LoraConfig
from torch import Tensor
from x2i.models.stable_diffusion.base import StableDiffusion, read_stable_diffusion
from x2i.runtime.samplers.lcm import boundary_weights

from ..recipe.training import WEIGHTS, TrainingStage, averaged, device, low_precision, report
from ..recipe.unet import alphas_cumprod
from .systems import ComposedPairs, PlainText, ShownSubjects, System, share_lora
from .trajectories import VISITED, draw_runs

PEAK = 6e-4
RANK = 8
TARGETS = (
    r".*\.(to_q|attn1\.to_k|attn1\.to_v|to_out\.0|proj_in|proj_out|ff\.net\.0\.proj|ff\.net\.2|conv1|conv2|"
    r"conv_shortcut|downsamplers\.0\.conv|upsamplers\.0\.conv|time_emb_proj)"
)
"""The layers that LCM-LoRA changes but for what reads the context: ELITE has keys and values of its own."""
BATCH = 9
"""Rows of each system in a step."""
RUNS = 320
"""Runs of each system, whose points these rows are."""
RENOISED_SHARE = 0.5
"""How many of the later points are a run's end under fresh noise, as few steps make them, not the run's own."""
HUBER = 0.001
"""Where the loss goes over from squares to distances."""
TIMESTEP_SCALING = 10.0


def build() -> UNet2DConditionModel:
    """The published denoiser, frozen, with a LoRA of RANK that wants a gradient."""
    return with_lora(published().unet)


def with_lora(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """A denoiser, frozen, with such a LoRA. Its self-attention takes plain steps, whose backward pass is quicker on
    CPUs."""
    unet.requires_grad_(False)
    for path, module in unet.named_modules():
        if path.endswith("attn1"):
            module.set_processor(AttnProcessor())
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=TARGETS))
    return unet.to(device())


def published() -> StableDiffusion:
    """The published base, read anew."""
    return read_stable_diffusion(WEIGHTS / "sd")


def trained(folder: Path) -> UNet2DConditionModel:
    """The denoiser with its LoRA as stage `few_step` left it, averaged weights, in eval mode."""
    return averaged(build(), folder / "few_step.pt")


def systems(folder: Path, student: UNet2DConditionModel) -> list[System]:
    """All three with the student's LoRA in their denoisers."""
    made: list[System] = [
        PlainText(published(), RUNS),
        ShownSubjects(published(), RUNS),
        ComposedPairs(published(), RUNS, folder),
    ]
    for system in made:
        share_lora(student, with_lora(system.unet))
    return made


def cached_runs(folder: Path, drawn: list[System]) -> list[Tensor]:
    """Each system's runs as `draw_runs` returns them, kept in `folder/few_step_runs.pt`."""
    path = folder / "few_step_runs.pt"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save([draw_runs(system, RUNS) for system in drawn], path)
    return torch.load(path, map_location=device(), weights_only=True)


def consistent(noise: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
    """The clean latents that a student's predicted noise means: the identity at timestep 0."""
    alpha = alphas_cumprod()[timesteps].view(-1, 1, 1, 1)
    clean = (noisy - (1 - alpha).sqrt() * noise) / alpha.sqrt()
    shares = [boundary_weights(float(timestep) * TIMESTEP_SCALING) for timestep in timesteps]
    skip, out = (torch.tensor(each, device=noisy.device).view(-1, 1, 1, 1) for each in zip(*shares, strict=True))
    return skip * noisy + out * clean


def loss(system: System, runs: Tensor, number: int) -> Tensor:
    """How far the student's clean latents are from the ends of the runs [n, 1 + VISITED, C, h, w] that its noisy ones
    belong to, on the batch of step `number`.

    The weight is the root of the signal's share: without it the start of the runs would hide the rest.
    """
    random = torch.Generator().manual_seed(number)
    rows = torch.randint(len(runs), (BATCH,), generator=random).to(device())
    visit = torch.randint(len(VISITED), (BATCH,), generator=random).to(device())
    ends = runs[rows, -1]
    noise = torch.randn(ends.shape, generator=random).to(device())
    renoised = (torch.rand(BATCH, generator=random).to(device()) < RENOISED_SHARE) & (visit > 0)
    timesteps = torch.tensor(VISITED, device=device())[visit]
    alpha = alphas_cumprod()[timesteps].view(-1, 1, 1, 1)
    fresh = alpha.sqrt() * ends + (1 - alpha).sqrt() * noise
    noisy = torch.where(renoised.view(-1, 1, 1, 1), fresh, runs[rows, visit])
    context = system.context(rows, timesteps)
    with low_precision():
        predicted = system.unet(noisy, timesteps, context).sample.float()
    errors = (consistent(predicted, noisy, timesteps) - ends) ** 2
    return (((errors + HUBER**2).sqrt() - HUBER) * alpha**0.25).mean()


def train(folder: Path, minutes: float, steps: int | None = None) -> None:
    """Trains (or goes on training) the LoRA; the state is `folder/few_step.pt`."""
    torch.manual_seed(0)
    stage = TrainingStage.open(build(), folder / "few_step.pt", PEAK, decay=0.998)
    drawn = systems(folder, stage.module)
    runs = cached_runs(folder, drawn)

    def of_step(number: int) -> Tensor:
        return torch.stack([loss(system, each, number) for system, each in zip(drawn, runs, strict=True)]).sum()

    report(stage.run(minutes, of_step, steps))
