"""`unid3`: a picture of a caption, a caption of a picture, both together, and what either lacks.

Source: UniD3 (arXiv 2211.14842) and its code, which rounds pictures to bytes. There is no guidance in it.
"""

from collections.abc import Mapping

import numpy as np
from torch import Tensor
from x2i.models.clip.caption_tokenizer import CAPTION_EXTRAS, UNKNOWN, caption_tokenizer_json
from x2i.models.codecs.token_codec import read_token_codec
from x2i.models.errors import read_all
from x2i.models.random.joint_models import JointModel, random_unid3
from x2i.models.token_transformers.unid3_checkpoint import read_unid3, read_unid3_settings
from x2i.runtime.bundle.calls import GraphCall
from x2i.runtime.bundle.plan import Conditioner, Plan
from x2i.runtime.inputs.pictures.start import StartInput
from x2i.runtime.inputs.text.prompt import TextInput
from x2i.runtime.processes.guidance import Guidance
from x2i.runtime.processes.segment import Segment
from x2i.runtime.processes.tails import PictureTail, TextTail, TokenSpan
from x2i.runtime.processes.tokens import TokensProcess
from x2i.runtime.token_samplers.joint.process import JointDiffusion

from ..components.codec import picture_tokens_component, token_decoder_component
from ..components.token_denoiser import DRAWS, JOINT_OUTPUTS, TRANSFORMER, joint_denoiser_component
from ..errors import PlanError
from ..plan import ExportPlan
from ..system import Build, SystemSpec, consume
from ..systems.base import TOKENIZER

LEAST_VOCABULARY = 514
"""Pieces that CLIP's tokenizer has without a merge; with fewer some letters are not read."""
SCHEDULE_ERROR = 1e-5
"""Between logarithms of one schedule in float32."""


def build_unid3(plan: ExportPlan) -> Build:
    """Raises CheckpointError for parts that cannot be read or do not belong together, PlanError for a checkpoint of
    another schedule, and for a codec of other than coloured pictures."""
    model = _read(plan) if plan.random_weights is None else random_unid3(plan.random_weights)
    settings, codec = model.transformer.settings, model.codec.vqgan.settings
    if codec.decoder.channels != 3 or codec.encoder.channels != 3:
        raise PlanError(f"--part codec: expected one of 3 channels, got {codec.decoder.channels}; give a picture's")
    grid = settings.side, settings.side
    components = [
        picture_tokens_component(model.codec, grid),
        token_decoder_component(model.codec, grid),
        joint_denoiser_component(model.transformer),
    ]
    lacking = f"a vocabulary of {settings.text_classes} pieces lacks letters, which prompts lose"
    notes = (lacking,) if settings.text_classes < LEAST_VOCABULARY else ()
    return Build(joint_plan(model), {TOKENIZER: model.tokenizer}, consume(components), len(components), notes)


def joint_plan(model: JointModel) -> Plan:
    """The runtime's plan for a model of these sizes."""
    settings, codec = model.transformer.settings, model.codec.vqgan.settings
    sampler = _sampler(model)
    size = settings.side * codec.factor, settings.side * codec.factor
    start = StartInput(
        classes=settings.image_classes,
        factor=codec.factor,
        multiple=codec.factor,
        takes=("image", "tokens", "mask"),
        signed=True,
        fixed=size,
        codes=codec.codes if codec.gumbel else None,
    )
    read = {"pixels": "start_pixels"} | ({"exponential": "code_noise"} if codec.gumbel else {})
    text = TextInput(TOKENIZER, settings.text_length, pad_id=0, optional=True, cleans=True)
    image, caption = sampler.parts["image"], sampler.parts["text"]
    process = TokensProcess(
        segments=(Segment(TRANSFORMER, sampler.steps, {name: name for name in DRAWS}),),
        sampler=sampler,
        grid=(1, image.length + caption.length),
        tails=(
            PictureTail("decoder", "round", TokenSpan(image.first, image.length)),
            TextTail(
                TOKENIZER,
                TokenSpan(caption.first, caption.length, caption.offset),
                dropped=CAPTION_EXTRAS,
                unknown=UNKNOWN,
            ),
        ),
        guidance=Guidance(1.0, "logits", fixed=True),
        factor=codec.factor,
        outputs=JOINT_OUTPUTS,
        picture_size=size,
    )
    encode = GraphCall("image_tokens", read, {"tokens": "start_tokens"})
    return Plan((Conditioner((), (text,)), Conditioner((encode,), (start,))), (process,))


def _read(plan: ExportPlan) -> JointModel:
    parts = plan.parts
    settings = read_unid3_settings(parts["config"])
    checkpoint, tokenizer = read_all(
        lambda: read_unid3(parts["checkpoint"], settings),
        lambda: caption_tokenizer_json(parts["tokenizer"], settings.text_classes),
    )
    codec = read_token_codec(parts["codec"], parts.get("codes"), settings.image_classes, inside=checkpoint.codec)
    model = JointModel(checkpoint.transformer, codec, tokenizer)
    _check_schedule(_sampler(model), checkpoint.schedule, f"--part checkpoint {parts['checkpoint']}")
    return model


def _sampler(model: JointModel) -> JointDiffusion:
    settings = model.transformer.settings
    return JointDiffusion(
        settings.image_length, settings.image_classes, settings.text_length, settings.text_classes, settings.timesteps
    )


def _check_schedule(sampler: JointDiffusion, stored: Mapping[str, Tensor], source: str) -> None:
    """Raises PlanError where a checkpoint was trained on another schedule than the sampler walks."""
    own: dict[str, np.ndarray] = {}
    for name, kind in (("image", "img"), ("text", "txt")):
        transitions = sampler.parts[name].own
        for prefix, not_masked, transition in (
            ("log_", "log_1_min_ct", transitions.one),
            ("log_cumprod_", "log_1_min_cumprod_ct", transitions.whole),
        ):
            own |= {f"{prefix}at": transition.kept, f"{prefix}ct": transition.masked, not_masked: transition.unmasked}
            own[f"{prefix}bt_{kind}"] = transition.replaced
    wrong = [name for name in own if not np.allclose(stored[name].numpy(), own[name], rtol=0, atol=SCHEDULE_ERROR)]
    if wrong:
        raise PlanError(
            f"{source}: expected the schedule of {sampler.steps} timesteps with which UniD3 draws, got another "
            f"{', '.join(wrong)}; give a checkpoint of UniD3's own training"
        )


SYSTEM = SystemSpec(
    build_unid3,
    required={
        "checkpoint": "the checkpoint of training, pretrained_models/*.pth",
        "config": "the training script's options as JSON, args.json",
        "codec": "the picture codec's checkpoint, misc/taming_dvae/*.pth, with its YAML beside it",
        "tokenizer": "CLIP's bpe_simple_vocab_16e6.txt.gz, or the folder of a CLIP tokenizer",
    },
    optional={
        "codes": "the map of the codec's codes to the transformer's, taming_vqvae_*.pt, where it knows only some"
    },
    reads_clip=False,
    stands_alone=True,
    base=None,
)
