"""What every system takes from its Stable Diffusion base: denoiser, decoder, schedule, sampling defaults."""

from typing import TYPE_CHECKING

from x2i.models.context_attention import KeyValueWeights, own_weights
from x2i.models.random_weights import random_stable_diffusion
from x2i.models.stable_diffusion import StableDiffusion, read_stable_diffusion
from x2i.runtime.inputs import Injection
from x2i.runtime.plan import Conditioner, Guidance, Plan, SamplerChoice, Segment
from x2i.runtime.samplers.schedule import Schedule

from ..component import Component
from ..decoder import decoder_component, decoder_plan
from ..denoiser import denoiser_component, denoiser_context
from ..projection import projection_component

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


def base_components(
    base: StableDiffusion, weights: KeyValueWeights | None = None, local_weights: KeyValueWeights | None = None
) -> list[Component]:
    """Decoder, projections and denoiser. `weights` replace the UNet's own keys and values, `local_weights` bring a
    second attention."""
    return [
        decoder_component(base.vae, base.scaling_factor),
        projection_component(own_weights(base.unet) if weights is None else weights),
        *([projection_component(local_weights, local=True)] if local_weights is not None else []),
        denoiser_component(base.unet, injected=local_weights is not None),
    ]


def base_plan(
    base: StableDiffusion,
    conditioners: tuple[Conditioner, ...],
    sampler: SamplerChoice,
    layout: str,
    injection: Injection | None = None,
    guidance: float = 7.5,
) -> Plan:
    """The plan of a system whose conditioners leave all keys and values in slots, and with `injection` a second set."""
    schedule = Schedule(
        base.schedule.train_steps,
        base.schedule.beta_start,
        base.schedule.beta_end,
        base.schedule.steps_offset,
        base.schedule.set_alpha_to_one,
    )
    return Plan(
        conditioners=conditioners,
        segments=(Segment("denoiser", schedule.train_steps, denoiser_context(injection is not None)),),
        sampler=sampler,
        decoder=decoder_plan(base.vae, base.unet.config.sample_size, layout),
        injection=injection,
        schedule=schedule,
        guidance=Guidance(guidance),
    )
