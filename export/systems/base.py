"""What every system takes from its Stable Diffusion base: denoiser, decoder, text encoder and schedule."""

from dataclasses import dataclass, replace
from functools import partial

from transformers import CLIPTextModel
from x2i.models.clip.learned_words import read_learned_word, with_learned_words
from x2i.models.clip.published_tokenizer import PublishedTokenizer
from x2i.models.context_attention import KeyValueWeights, cross_attention_weights
from x2i.models.errors import read_all
from x2i.models.random.weights import random_stable_diffusion
from x2i.models.stable_diffusion.base import Replacements, StableDiffusion, read_stable_diffusion
from x2i.runtime.bundle.calls import GraphCall
from x2i.runtime.bundle.plan import Conditioner, Plan
from x2i.runtime.inputs.strength import Injection
from x2i.runtime.inputs.text.prompt import TextInput
from x2i.runtime.processes.guidance import Guidance
from x2i.runtime.processes.latents import LatentsProcess, SamplerChoice
from x2i.runtime.processes.segment import Segment

from ..components.decoder import decoder_component, decoder_plan
from ..components.denoiser import denoiser_component, denoiser_context
from ..components.projection import projection_component
from ..errors import PlanError
from ..plan import ExportPlan
from ..sampling import DIFFUSERS_SAMPLING
from ..schedulers import read_sampling
from ..to_onnx import Component


def read_base(plan: ExportPlan, reads_text: bool = True) -> StableDiffusion:
    """The Stable Diffusion that the plan names, float32 in eval mode; raises CheckpointError with all problems.

    Without `reads_text` its text encoder and tokenizer are left out.
    """
    if plan.random_weights is not None:
        base = random_stable_diffusion(plan.random_weights)
        return base if reads_text else replace(base, text_encoder=None, tokenizer=None)
    assert plan.base is not None
    instead = Replacements(plan.parts.get("tokenizer"), plan.parts.get("vae"), reads_text)
    return read_stable_diffusion(plan.base, plan.base_config, instead)


def base_components(base: StableDiffusion, local_weights: KeyValueWeights | None = None) -> list[Component]:
    """Decoder, projections and denoiser, in this order; `local_weights` bring those of a second attention."""
    return [
        decoder_component(base.vae, base.scaling_factor),
        projection_component(cross_attention_weights(base.unet)),
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
    process = LatentsProcess(
        segments=(Segment("denoiser", schedule.train_steps, denoiser_context(injection is not None)),),
        sampler=sampler or own.sampler or DIFFUSERS_SAMPLING,
        decoder=decoder_plan(base.vae, base.unet.config.sample_size, layout),
        schedule=schedule,
        guidance=Guidance(guidance),
    )
    return Plan(conditioners=conditioners, processes=(process,), injection=injection)


TOKENIZER = "tokenizer.json"
"""The file of the prompt's tokenizer in a bundle."""


@dataclass(frozen=True, slots=True)
class BaseText:
    """CLIP's text encoder, its tokenizer's JSON, and the plan's input for its prompts.

    `masks` says that the encoder is handed the mask of a prompt's padding; `notes` are for the user, a line each.
    """

    encoder: CLIPTextModel
    tokenizer_json: str
    prompt: TextInput
    masks: bool
    notes: tuple[str, ...]

    @property
    def stage(self) -> GraphCall:
        """The call of the encoder's graph, which fills the slot `context`."""
        inputs = ("input_ids", "attention_mask") if self.masks else ("input_ids",)
        return GraphCall("text_encoder", {name: name for name in inputs}, {"context": "context"})


def require_text(base: StableDiffusion, plan: ExportPlan) -> None:
    """Raises PlanError for a base without a text encoder or a tokenizer."""
    if base.text_encoder is None or base.tokenizer is None:
        lacking = "text encoder" if base.text_encoder is None else "tokenizer"
        raise PlanError(
            f"--base {plan.base}: expected a base with its text encoder and tokenizer, got one without a "
            f"{lacking}; use the diffusers folder, or add --part tokenizer=FOLDER"
        )


def base_text(base: StableDiffusion, plan: ExportPlan, takes_mask: bool = True) -> BaseText:
    """The base's text side, with the plan's learned words. Raises PlanError when it has none, when the plan skips all
    its layers, or when it wants a mask of the padding in a system whose authors hand it none; CheckpointError for a
    word that does not fit."""
    require_text(base, plan)
    assert base.text_encoder is not None and base.tokenizer is not None
    masks = getattr(base.text_encoder.config, "use_attention_mask", None) is True
    if masks and not takes_mask:
        raise PlanError(
            "text encoder: expected no use_attention_mask, which this system's authors leave aside, got true; use a "
            "base without it"
        )
    skipped, layers = plan.clip_skip or 0, base.text_encoder.config.num_hidden_layers
    if skipped >= layers:
        raise PlanError(
            f"--clip-skip: expected fewer than the text encoder's {layers} layers, got {skipped}; skip 1, which other "
            "programs call 2"
        )
    tokenizer, notes = _with_words(base.text_encoder, base.tokenizer, plan), base.notes
    window = tokenizer.window
    if window is None:
        window = base.text_encoder.config.max_position_embeddings
        notes += (
            f"tokenizer: {tokenizer.source} states no model_max_length; prompts have the text encoder's {window} "
            "positions",
        )
    prompt = TextInput(TOKENIZER, window, tokenizer.pad_id, skipped)
    return BaseText(base.text_encoder, tokenizer.json, prompt, masks, notes)


def _with_words(encoder: CLIPTextModel, tokenizer: PublishedTokenizer, plan: ExportPlan) -> PublishedTokenizer:
    """The tokenizer with the words that the plan brings, the encoder with their vectors."""
    reads = [partial(read_learned_word, path, token) for token, path in plan.named("embedding").items()]
    return with_learned_words(encoder, tokenizer, read_all(*reads)) if reads else tokenizer
