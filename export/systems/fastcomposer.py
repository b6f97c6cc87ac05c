"""`fastcomposer`: pictures of several subjects, each joined to the noun of the prompt that it stands for.

The picture's layout is drawn from the words alone, before the subjects take part. Source: FastComposer
(arXiv 2305.10431) and its released script, which samples 50 steps at guidance 5, the subjects from the 12th call on.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from x2i.models.fastcomposer_checkpoint import read_fastcomposer
from x2i.models.random_weights import random_fastcomposer
from x2i.runtime.inputs import MarkerInput, PictureInput
from x2i.runtime.plan import Conditioner, Delay, Segment, Stage

from ..denoiser import denoiser_context
from ..projection import projection_stage
from ..subjects import objects_component, postfuse_component
from ..text import clip_component
from .base import DIFFUSERS_SAMPLING, base_components, base_plan, read_base
from .base_text import CLIP_STAGES, TOKENIZER, base_text
from .system import Build, SystemSpec, drained

if TYPE_CHECKING:
    from ..plan import ExportPlan

MARKER = "<|image|>"
RESOLUTION = 224
GUIDANCE = 5.0
DELAY = Delay(start_merge_step=10)
PLAIN = "plain_"


def build(plan: "ExportPlan") -> Build:
    """Raises CheckpointError for parts that do not fit one another, PlanError for a base without its text side."""
    base = read_base(plan)
    text = base_text(base, str(plan.base))
    if plan.random_weights is not None:
        parts = random_fastcomposer(plan.random_weights, base)
    else:
        parts = read_fastcomposer(plan.parts["checkpoint"], plan.parts["encoder"], base)
    base = replace(base, unet=parts.unet, text_encoder=parts.text_encoder)
    pictures = PictureInput("subjects", parts.vision.config.image_size, resolution=RESOLUTION)
    objects = Stage("image_encoder", {"pixels": "subjects_pixels"}, {"objects": "objects"})
    conditioners = (
        Conditioner((objects,), picture=pictures),
        Conditioner(
            (*CLIP_STAGES, projection_stage("context", PLAIN)), text.given, marker=MarkerInput(MARKER, marks=False)
        ),
        Conditioner(
            (*CLIP_STAGES, _fusion(), projection_stage("context")), text.given, marker=MarkerInput(MARKER, marks=True)
        ),
    )
    components = [
        objects_component(parts.vision),
        postfuse_component(parts.postfuse),
        clip_component(parts.text_encoder, text.given.window),
        *base_components(base),
    ]
    plan_data = base_plan(base, conditioners, DIFFUSERS_SAMPLING, "diffusers", guidance=GUIDANCE)
    plan_data = replace(plan_data, segments=_segments(base.schedule.train_steps))
    return Build(plan_data, {TOKENIZER: text.tokenizer_json}, drained(components), len(components))


def _fusion() -> Stage:
    inputs = {name: name for name in ("context", "objects", "object_index")}
    return Stage("postfuse", inputs, {"fused": "context"})


def _segments(first: float) -> tuple[Segment, ...]:
    """The same denoiser twice: it reads the words alone, and from the delay on the subjects with them."""
    return (
        Segment("denoiser", first, denoiser_context(slots=PLAIN)),
        Segment("denoiser", first, denoiser_context(), DELAY),
    )


SYSTEM = SystemSpec(
    build,
    required={
        "checkpoint": "pytorch_model.bin (or .safetensors), the whole model",
        "encoder": "the folder of the CLIP it was trained from, of which config.json will do",
    },
    optional={"tokenizer": "the CLIP tokenizer's folder, for a CompVis base"},
)
