"""Stages `few_step` and `few_step_more`: a LoRA each by which the denoiser draws in a few steps without guidance.

It is a LoRA as latent consistency models have it (arXiv 2311.05556), sampled as they are (Luo et al. 2023, arXiv
2310.04378). The base, ELITE and FastComposer share it: each is drawn in 20 guided steps, and the student learns to say
from points on the way where such a run ends. The stages read published weights alone. They differ in how many runs they
learn from, and for how long: what is published is the mean of both.
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
RUNS, MORE_RUNS = 320, 960
"""Runs of each system, whose points these rows are, in either stage."""
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


def trained(folder: Path) -> list[UNet2DConditionModel]:
    """The denoiser with its LoRA as each stage left it, averaged weights, in eval mode."""
    return [averaged(build(), folder / f"{stage}.pt") for stage in ("few_step", "few_step_more")]


def systems(folder: Path, student: UNet2DConditionModel, runs: int) -> list[System]:
    """All three with the student's LoRA in their denoisers."""
    made: list[System] = [
        PlainText(published(), runs),
        ShownSubjects(published(), runs),
        ComposedPairs(published(), runs, folder),
    ]
    for system in made:
        share_lora(student, with_lora(system.unet))
    return made


def cached_runs(path: Path, drawn: list[System], runs: int) -> list[Tensor]:
    """Each system's runs as `draw_runs` returns them, kept in a file."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save([draw_runs(system, runs) for system in drawn], path)
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
    """Trains (or goes on training) the first LoRA; the state is `folder/few_step.pt`."""
    _train(folder / "few_step.pt", RUNS, minutes, steps)


def train_more(folder: Path, minutes: float, steps: int | None = None) -> None:
    """The same for the LoRA of more runs; the state is `folder/few_step_more.pt`."""
    _train(folder / "few_step_more.pt", MORE_RUNS, minutes, steps)


def _train(path: Path, count: int, minutes: float, steps: int | None) -> None:
    torch.manual_seed(0)
    stage = TrainingStage.open(build(), path, PEAK, decay=0.998)
    drawn = systems(path.parent, stage.module, count)
    runs = cached_runs(path.with_name(f"{path.stem}_runs.pt"), drawn, count)

    def of_step(number: int) -> Tensor:
        return torch.stack([loss(system, each, number) for system, each in zip(drawn, runs, strict=True)]).sum()

    report(stage.run(minutes, of_step, steps))
