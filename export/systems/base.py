"""What every system takes from its Stable Diffusion base: denoiser, decoder, text encoder and schedule."""

from dataclasses import dataclass, replace
from functools import partial

from tokenizers import Tokenizer
from transformers import CLIPTextModel
from x2i.models.clip.learned_words import add_rows, open_embeddings, read_learned_word
from x2i.models.clip.published_tokenizer import PublishedTokenizer
from x2i.models.context_attention import KeyValueWeights, cross_attention_weights
from x2i.models.errors import read_all
from x2i.models.random.weights import random_stable_diffusion
from x2i.models.readers.tokenizer_json import to_tokenizer_json
from x2i.models.stable_diffusion.base import Replacements, StableDiffusion, read_stable_diffusion
from x2i.models.stable_diffusion.tiny_autoencoder import read_tiny_decoder
from x2i.runtime.bundle.calls import GraphCall
from x2i.runtime.bundle.plan import Conditioner, Plan
from x2i.runtime.inputs.option import Input
from x2i.runtime.inputs.strength import Injection
from x2i.runtime.inputs.text.learned import LearnedInput
from x2i.runtime.inputs.text.prompt import TextInput
from x2i.runtime.inputs.text.windows import WindowsInput
from x2i.runtime.media.added_tokens import add_words, word_problems
from x2i.runtime.processes.guidance import Guidance
from x2i.runtime.processes.latents import LatentsProcess, SamplerChoice
from x2i.runtime.processes.segment import Segment

from ..components.decoder import (
    DECODER,
    PREVIEW_DECODER,
    decoder_component,
    decoder_factor,
    decoder_plan,
    encoder_component,
    start_conditioners,
)
from ..components.denoiser import denoiser_component, denoiser_context, embeds_guidance
from ..components.projection import projection_component
from ..errors import PlanError
from ..plan import ExportPlan
from ..sampling.defaults import DIFFUSERS_SAMPLING
from ..sampling.few_step import few_step_guidance, few_step_note, few_step_sampling
from ..sampling.schedulers import read_sampling
from ..to_onnx import Component


def read_base(plan: ExportPlan, reads_text: bool = True) -> StableDiffusion:
    """The Stable Diffusion that the plan names, float32 in eval mode; raises CheckpointError with all problems.

    Without `reads_text` its text encoder and tokenizer are left out.
    """
    if plan.random_weights is not None:
        base = random_stable_diffusion(plan.random_weights)
        base = base if reads_text else replace(base, text_encoder=None, tokenizer=None)
    else:
        assert plan.base is not None
        instead = Replacements(plan.parts.get("tokenizer"), plan.parts.get("vae"), reads_text, plan.inpainting)
        base = read_stable_diffusion(plan.base, plan.base_config, instead)
    base = with_tiny_decoders(base, plan)
    if plan.few_step is None:
        return base
    scheduler = plan.scheduler(base.scheduler)
    return replace(
        base, scheduler=scheduler, few_step=True, notes=(*base.notes, few_step_note(scheduler, plan.few_step))
    )


def with_tiny_decoders(base: StableDiffusion, plan: ExportPlan) -> StableDiffusion:
    """The base with the tiny decoders that the plan names; raises CheckpointError, and PlanError for those that decode
    other latents than the base's."""
    paths = {"decoder": plan.decoder, "preview_decoder": plan.preview_decoder}
    given = {name: path for name, path in paths.items() if path is not None}
    read = dict(zip(given, read_all(*(partial(read_tiny_decoder, path) for path in given.values())), strict=True))
    channels, factor = base.vae.config.latent_channels, decoder_factor(base.vae)
    problems = []
    for name, tiny in read.items():
        got = tiny.config.latent_channels, decoder_factor(tiny)
        if got != (channels, factor):
            problems.append(
                f"--{name.replace('_', '-')} {given[name]}: expected a decoder of {channels} channels, {factor} pixels "
                f"a latent, as the base's VAE has, got one of {got[0]} and {got[1]}; give the one made for this base"
            )
    if problems:
        raise PlanError(*problems)
    return replace(base, **read)


def base_components(
    base: StableDiffusion, local_weights: KeyValueWeights | None = None, weighted: bool = False
) -> list[Component]:
    """Decoders, encoder, projections and denoiser, in this order; `local_weights` bring those of a second attention.
    A `weighted` denoiser reads what each token of the context weighs."""
    return [
        *(
            decoder_component(vae, base.scaling_factor if vae is base.vae else vae.config.scaling_factor, name)
            for name, vae in base.decoders().items()
        ),
        encoder_component(base.vae, base.scaling_factor),
        projection_component(cross_attention_weights(base.unet)),
        *([projection_component(local_weights, local=True)] if local_weights is not None else []),
        denoiser_component(base.unet, injected=local_weights is not None, fills=base.fills, weighted=weighted),
    ]


def base_plan(
    base: StableDiffusion,
    conditioners: tuple[Conditioner, ...],
    sampler: SamplerChoice | None,
    layout: str,
    injection: Injection | None = None,
    guidance: float = 7.5,
    weighted: bool = False,
) -> Plan:
    """The plan of a system whose conditioners leave all keys and values in slots, with `injection` a second set, and
    with a `weighted` denoiser what each token weighs.

    Without a `sampler` it is the base's own. `layout` ("diffusers" or "compvis") decides how pictures are rounded to
    bytes; `guidance` is the default scale. A base of few steps has a sampler and a guidance of its own. Raises
    PlanError for a scheduler that cannot be drawn.
    """
    own = read_sampling(base.scheduler, "scheduler")
    schedule, embeds = own.schedule, embeds_guidance(base.unet)
    decoders = {
        name: decoder_plan(vae, base.unet.config.sample_size, layout, name) for name, vae in base.decoders().items()
    }
    usual = Guidance(guidance, "embedded" if embeds else "noise")
    context = denoiser_context(injection is not None, base.fills, weighted=weighted)
    process = LatentsProcess(
        segments=(Segment("denoiser", schedule.train_steps, context),),
        sampler=few_step_sampling(own) if base.few_step else sampler or own.sampler or DIFFUSERS_SAMPLING,
        decoder=decoders[DECODER],
        schedule=schedule,
        guidance=few_step_guidance(embeds) if base.few_step else usual,
        preview=decoders.get(PREVIEW_DECODER),
    )
    conditioners += start_conditioners(base.vae, base.fills)
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
        inputs = ("input_ids", "learned", *(("attention_mask",) if self.masks else ()))
        return GraphCall("text_encoder", {name: name for name in inputs}, {"context": "context"})

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What a conditioner takes that reads the prompt by this encoder, whose states are in the slot `context`."""
        embeddings = open_embeddings(self.encoder)
        words = LearnedInput(embeddings.num_embeddings, embeddings.embedding_dim)
        return self.prompt, words, WindowsInput("context")


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
    if not reads:
        return tokenizer
    words = read_all(*reads)
    text, counts = Tokenizer.from_str(tokenizer.json), {word.token: len(word.vectors) for word in words}
    if problems := word_problems(text, counts):
        raise PlanError(*(f"--part {problem}" for problem in problems))
    add_rows(encoder, add_words(text, counts), words)
    return replace(tokenizer, json=to_tokenizer_json(text), size=max(text.get_vocab().values()) + 1)
