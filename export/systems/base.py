"""What every system takes from its Stable Diffusion base: denoiser, decoder, text encoder and schedule."""

from dataclasses import dataclass

from tokenizers import Tokenizer
from transformers import CLIPTextModel
from x2i.models.context_attention import KeyValueWeights, cross_attention_weights
from x2i.models.random.weights import random_stable_diffusion
from x2i.models.stable_diffusion.base import StableDiffusion, read_stable_diffusion
from x2i.runtime.bundle.plan import Conditioner, GraphCall, Guidance, Plan, SamplerChoice, Segment
from x2i.runtime.inputs.prompt import TextInput
from x2i.runtime.inputs.strength import Injection

from ..components.decoder import decoder_component, decoder_plan
from ..components.denoiser import denoiser_component, denoiser_context
from ..components.projection import projection_component
from ..errors import PlanError
from ..plan import ExportPlan
from ..sampling import DIFFUSERS_SAMPLING
from ..schedulers import read_sampling
from ..to_onnx import Component


def read_base(plan: ExportPlan) -> StableDiffusion:
    """The Stable Diffusion v1 that the plan names, float32 in eval mode; raises CheckpointError with all problems."""
    if plan.random_weights is not None:
        return random_stable_diffusion(plan.random_weights)
    assert plan.base is not None
    return read_stable_diffusion(plan.base, plan.base_config, plan.parts.get("tokenizer"))


def base_components(
    base: StableDiffusion, weights: KeyValueWeights | None = None, local_weights: KeyValueWeights | None = None
) -> list[Component]:
    """Decoder, projections and denoiser, in this order.

    `weights` replace the UNet's own projections to keys and values; `local_weights` bring those of a second attention.
    """
    return [
        decoder_component(base.vae, base.scaling_factor),
        projection_component(cross_attention_weights(base.unet) if weights is None else weights),
        *([projection_component(local_weights, local=True)] if local_weights is not None else []),
        denoiser_component(base.unet, injected=local_weights is not None),
    ]


def base_plan(
    base: StableDiffusion,
    conditioners: tuple[Conditioner, ...],
    sampler: SamplerChoice | None,
    layout: str,
    injection: Injection | None = None,
    guidance: float = 7.5,
) -> Plan:
    """The plan of a system whose conditioners leave all keys and values in slots, and with `injection` a second set.

    Without a `sampler` it is the base's own. `layout` ("diffusers" or "compvis") decides how pictures are rounded to
    bytes; `guidance` is the default scale. Raises PlanError for a scheduler that cannot be drawn.
    """
    own = read_sampling(base.scheduler, "scheduler")
    schedule = own.schedule
    return Plan(
        conditioners=conditioners,
        segments=(Segment("denoiser", schedule.train_steps, denoiser_context(injection is not None)),),
        sampler=sampler or own.sampler or DIFFUSERS_SAMPLING,
        decoder=decoder_plan(base.vae, base.unet.config.sample_size, layout),
        injection=injection,
        schedule=schedule,
        guidance=Guidance(guidance),
    )


TOKENIZER = "tokenizer.json"
"""The file of the prompt's tokenizer in a bundle."""
CLIP_STAGES = (GraphCall("text_encoder", {"input_ids": "input_ids"}, {"context": "context"}),)


@dataclass(frozen=True, slots=True)
class BaseText:
    """CLIP's text encoder, its tokenizer's JSON, and the plan's input for its prompts."""

    encoder: CLIPTextModel
    tokenizer_json: str
    prompt: TextInput


def base_text(base: StableDiffusion, name: str) -> BaseText:
    """The base's text side; raises PlanError when it has none, or one of another width than the UNet reads."""
    if base.text_encoder is None or base.tokenizer_json is None:
        lacking = "text encoder" if base.text_encoder is None else "tokenizer"
        raise PlanError(
            f"--base {name}: expected a base with its text encoder and tokenizer, got one without a "
            f"{lacking}; use the diffusers folder, or add --part tokenizer=FOLDER"
        )
    config, width = base.text_encoder.config, base.unet.config.cross_attention_dim
    if config.hidden_size != width:
        raise PlanError(f"text encoder: expected a width of {width} as the UNet reads, got {config.hidden_size}")
    assert base.pad_token is not None
    pad_id = Tokenizer.from_str(base.tokenizer_json).token_to_id(base.pad_token)
    assert pad_id is not None, "the reader checked the padding token"
    prompt = TextInput(TOKENIZER, config.max_position_embeddings, pad_id)
    return BaseText(base.text_encoder, base.tokenizer_json, prompt)
