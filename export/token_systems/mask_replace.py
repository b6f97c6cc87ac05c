"""What the systems share that draw by VQ-Diffusion's code: files, conditions, and the process over their tokens."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from x2i.models.clip.merges_tokenizer import merges_tokenizer_json
from x2i.models.codecs.token_codec import TokenCodec, read_token_codec
from x2i.models.errors import read_all
from x2i.models.random.token_models import PictureTokenModel
from x2i.models.token_transformers.vq_diffusion_checkpoint import NULL_CLASS, VqDiffusion, own_codec, read_vq_diffusion
from x2i.models.token_transformers.vq_diffusion_config import VqDiffusionConfig, read_vq_diffusion_config
from x2i.runtime.bundle.calls import GraphCall
from x2i.runtime.bundle.plan import IS_NULL, Conditioner, Plan
from x2i.runtime.inputs.class_label import ClassInput
from x2i.runtime.inputs.pictures.start import StartInput
from x2i.runtime.inputs.text.prompt import TextInput
from x2i.runtime.processes.guidance import Guidance
from x2i.runtime.processes.segment import Segment
from x2i.runtime.processes.tails import PictureTail
from x2i.runtime.processes.tokens import TokensProcess
from x2i.runtime.token_samplers.mask_replace import MaskReplace
from x2i.runtime.token_samplers.mask_transitions import MaskTransitions, transition_shares

from ..components.codec import token_decoder_component
from ..components.projection import projection_component, projection_stage
from ..components.text import unit_context_component
from ..components.token_denoiser import TRANSFORMER, token_denoiser_component, token_denoiser_context
from ..errors import PlanError
from ..plan import ExportPlan
from ..system import Build, consume
from ..systems.base import TOKENIZER
from ..to_onnx import Component

REQUIRED = {
    "checkpoint": "the checkpoint of training, *_pretrained.pth or last.pth",
    "config": "its configuration, config.yaml",
    "codec": "the codec's checkpoint, with its YAML beside it",
}
OPTIONAL = {
    "codes": "the map of the codec's codes to the transformer's, taming_vqvae_*.pt, where it knows only some",
    "tokenizer": "CLIP's bpe_simple_vocab_16e6.txt.gz, or the folder of a CLIP tokenizer, where texts are read",
}
SCHEDULE_ERROR = 1e-5
"""Between logarithms of one schedule in float32; another one differs by more than 1 / 10,000 somewhere."""


@dataclass(frozen=True, slots=True)
class Networks:
    """The networks of a checkpoint, what its configuration says of them, and the prompts' tokenizer as JSON."""

    config: VqDiffusionConfig
    model: VqDiffusion
    tokenizer: str | None

    @property
    def classes(self) -> int:
        """How many classes a caller may name; the one for none is not among them."""
        return min(self.model.transformer.settings.class_rows or 0, NULL_CLASS)

    @property
    def tokenizers(self) -> dict[str, str]:
        """The bundle's tokenizers by their files' names."""
        return {} if self.tokenizer is None else {TOKENIZER: self.tokenizer}


@dataclass(frozen=True, slots=True)
class TokenParts:
    """Networks, and the codec whose tokens they draw."""

    networks: Networks
    codec: TokenCodec


def read_networks(plan: ExportPlan, besides: tuple[str, ...] = ()) -> Networks:
    """What the parts `checkpoint`, `config` and `tokenizer` hold; `besides` is as in `read_vq_diffusion_config`.

    Raises CheckpointError for files that are not what they should be, PlanError for a tokenizer that is missing, or
    that nothing reads.
    """
    config = read_vq_diffusion_config(plan.parts["config"], besides)
    merges, prompt = plan.parts.get("tokenizer"), config.prompt
    if (merges is None) != (prompt is None):
        wanted = "none, as this checkpoint reads no text" if prompt is None else OPTIONAL["tokenizer"]
        raise PlanError(f"--part tokenizer: expected {wanted}, got {'nothing' if merges is None else merges}")
    model, tokenizer = read_all(
        lambda: read_vq_diffusion(plan.parts["checkpoint"], config),
        lambda: None if merges is None or prompt is None else merges_tokenizer_json(merges, prompt.end_idx),
    )
    return Networks(config, model, tokenizer)


def read_parts(plan: ExportPlan, random: Callable[[str], PictureTokenModel]) -> TokenParts:
    """The networks and the codec of a system that draws pictures, from its parts, or as `random` makes them of the name
    of random weights."""
    if plan.random_weights is not None:
        made = random(plan.random_weights)
        return TokenParts(Networks(made.config, made.model, made.tokenizer), made.codec)
    networks, checkpoint = read_networks(plan), plan.parts["checkpoint"]
    config = networks.config
    named = str(config.codec.get("config_path", ""))
    inside = own_codec(checkpoint)
    codec = read_token_codec(plan.parts["codec"], plan.parts.get("codes"), config.transformer.classes, named, inside)
    return TokenParts(networks, codec)


def picture_build(plan: ExportPlan, parts: TokenParts, sampler: MaskReplace, guidance: Guidance) -> Build:
    """The system of networks, codec and sampler; raises PlanError where the schedule is not the checkpoint's, and for a
    codec of other than coloured pictures."""
    networks, codec = parts.networks, parts.codec.vqgan.settings
    check_schedule(sampler, networks.model.schedule, f"--part checkpoint {plan.parts.get('checkpoint', '')}")
    if codec.decoder.channels != 3:
        raise PlanError(f"--part codec: expected one of 3 channels, got {codec.decoder.channels}; give a picture's")
    process = TokensProcess(
        segments=(Segment(TRANSFORMER, sampler.steps, token_denoiser_context(networks.model.transformer)),),
        sampler=sampler,
        grid=networks.config.grid,
        tails=(PictureTail("decoder", to_uint8="truncate"),),
        guidance=guidance,
        factor=codec.factor,
    )
    components = [token_decoder_component(parts.codec, networks.config.grid), *network_components(networks)]
    start = StartInput(sampler.classes, codec.factor, codec.factor, takes=("tokens", "strength"))
    runtime_plan = Plan((*conditioners(networks), Conditioner((), (start,))), (process,))
    return Build(runtime_plan, networks.tokenizers, consume(components), len(components))


def check_schedule(sampler: MaskReplace, stored: Mapping[str, Tensor], source: str) -> None:
    """Raises PlanError where a checkpoint was trained on another schedule than the sampler walks; `stored` are its
    buffers, of which random weights have none."""
    own = _logarithms(sampler)
    wrong = [name for name, values in stored.items() if not _same(values.numpy(), own[name])]
    if wrong:
        raise PlanError(
            f"{source}: expected the schedule of {sampler.steps} steps from {sampler.masked[0]:g} to "
            f"{sampler.masked[1]:g} masked, {sampler.classes + sampler.mask_replaces} classes, got another "
            f"{', '.join(wrong)}; export it as the system that it was trained as"
        )


def _logarithms(sampler: MaskReplace) -> dict[str, np.ndarray]:
    """The sampler's schedule by the names of a checkpoint's buffers."""
    shares = transition_shares(sampler.kept, sampler.masked, sampler.steps, sampler.classes + sampler.mask_replaces)
    schedule = MaskTransitions.of(*shares, sampler.classes)
    found: dict[str, np.ndarray] = {}
    for prefix, not_masked, transition in (
        ("log_", "log_1_min_ct", schedule.one),
        ("log_cumprod_", "log_1_min_cumprod_ct", schedule.whole),
    ):
        found |= {f"{prefix}at": transition.kept, f"{prefix}bt": transition.replaced, f"{prefix}ct": transition.masked}
        found[not_masked] = transition.unmasked
    return found


def _same(stored: np.ndarray, own: np.ndarray) -> bool:
    return stored.shape == own.shape and np.allclose(stored, own, rtol=0, atol=SCHEDULE_ERROR)


def conditioners(networks: Networks) -> tuple[Conditioner, ...]:
    """What fills the slots that the transformer reads: of a prompt, of a class, or of nothing."""
    prompt = networks.config.prompt
    if prompt is not None:
        read = ("input_ids", *((IS_NULL,) if networks.model.null_text is not None else ()))
        encode = GraphCall("text_encoder", {name: name for name in read}, {"context": "context"})
        text = TextInput(TOKENIZER, prompt.window, pad_id=0, cleans=True)
        return (Conditioner((encode, projection_stage("context")), (text,)),)
    return (Conditioner((), (ClassInput(networks.classes, NULL_CLASS),)),) if networks.classes else ()


def network_components(networks: Networks) -> list[Component]:
    """Text encoder and projection, where texts are read, and the transformer, in this order."""
    transformer, encoder, prompt = networks.model.transformer, networks.model.text_encoder, networks.config.prompt
    if prompt is None:
        return [token_denoiser_component(transformer, NULL_CLASS if networks.classes else None)]
    assert encoder is not None, "a prompt that nothing encodes"
    text = unit_context_component(encoder, prompt.window, networks.model.null_text)
    matrices, biases = transformer.context_weights()
    contexts = text.run(text.example(text.proof))["context"]
    projection = projection_component(matrices, biases=biases, contexts=contexts)
    return [text, projection, token_denoiser_component(transformer, projection=projection)]
