"""What every system takes from its Stable Diffusion base: denoiser, decoder, schedule, sampling defaults."""

from typing import TYPE_CHECKING

from x2i.models.random_weights import random_stable_diffusion
from x2i.models.stable_diffusion import StableDiffusion, read_stable_diffusion
from x2i.runtime.plan import Conditioner, Plan, SamplerChoice, Segment
from x2i.runtime.samplers.schedule import Schedule

from ..component import Component
from ..decoder import decoder_component, decoder_plan
from ..denoiser import denoiser_component

if TYPE_CHECKING:
    from ..plan import ExportPlan

COMPVIS_SAMPLING = SamplerChoice("plms", 50, {"ddim": "ddim_compvis"})
"""The CompVis scripts' own samplers, which GlueGen's authors also run: their DDIM visits other timesteps."""

DIFFUSERS_SAMPLING = SamplerChoice("pndm", 50)


def read_base(plan: "ExportPlan") -> StableDiffusion:
    if plan.random_weights is not None:
        return random_stable_diffusion(plan.random_weights)
    assert plan.base is not None
    return read_stable_diffusion(plan.base, plan.base_config, plan.parts.get("tokenizer"))


def base_components(base: StableDiffusion, tokens: int) -> list[Component]:
    return [decoder_component(base.vae, base.scaling_factor), denoiser_component(base.unet, tokens)]


def base_plan(base: StableDiffusion, conditioner: Conditioner, sampler: SamplerChoice, layout: str) -> Plan:
    """The plan of a system whose only change to Stable Diffusion is what its context is made from."""
    schedule = Schedule(
        base.schedule.train_steps,
        base.schedule.beta_start,
        base.schedule.beta_end,
        base.schedule.steps_offset,
        base.schedule.set_alpha_to_one,
    )
    return Plan(
        conditioners=(conditioner,),
        segments=(Segment("denoiser", schedule.train_steps, {"context": "context"}),),
        sampler=sampler,
        decoder=decoder_plan(base.vae, base.unet.config.sample_size, layout),
        schedule=schedule,
    )
