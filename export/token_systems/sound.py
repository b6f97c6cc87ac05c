"""What the systems share that draw the tokens of a sound: VQ-Diffusion's process by Diffsound's older posterior.

Source: Diffsound (arXiv 2207.09983) and CDCD's dance-to-music branch (arXiv 2206.07771). Neither guides anything.
"""

from typing import Any

from x2i.models.token_transformers.vq_diffusion_checkpoint import VqDiffusion
from x2i.runtime.bundle.calls import GraphCall
from x2i.runtime.processes.guidance import Guidance
from x2i.runtime.processes.segment import Segment
from x2i.runtime.processes.tails import SoundTail
from x2i.runtime.processes.tokens import TokensProcess
from x2i.runtime.token_samplers.mask_replace import MaskReplace

from ..components.token_denoiser import TRANSFORMER, token_denoiser_context
from ..plan import ExportPlan
from .mask_replace import check_schedule

RATE = 22_050
"""Hz, of what both systems' codecs were trained on."""


def sound_process(
    plan: ExportPlan, model: VqDiffusion, grid: tuple[int, int], stages: tuple[GraphCall, ...], **own: Any
) -> TokensProcess:
    """The process over a `grid` of tokens, which `stages` make heard; `own` are the system's settings of the sampler.

    Raises PlanError where the sampler's schedule is not the checkpoint's.
    """
    settings = model.transformer.settings
    sampler = MaskReplace(
        classes=settings.classes, steps=settings.steps, mask_replaces=True, older_posterior=True, **own
    )
    check_schedule(sampler, model.schedule, f"--part checkpoint {plan.parts.get('checkpoint', '')}")
    return TokensProcess(
        segments=(Segment(TRANSFORMER, sampler.steps, token_denoiser_context(model.transformer)),),
        sampler=sampler,
        grid=grid,
        tails=(SoundTail(stages, RATE),),
        guidance=Guidance(1.0, "log_probabilities", fixed=True),
    )
