"""`fastcomposer`: pictures of several subjects, each joined to the noun of the prompt that it stands for.

The picture's layout is drawn from the words alone, before the subjects take part. Source: FastComposer
(arXiv 2305.10431) and its released script, which samples 50 steps at guidance 5, the subjects from the 12th call on.
"""

from dataclasses import replace

from x2i.models.random.weights import random_fastcomposer
from x2i.models.subjects.fastcomposer import read_fastcomposer
from x2i.runtime.bundle.calls import GraphCall
from x2i.runtime.bundle.plan import Conditioner
from x2i.runtime.inputs.delay import Delay
from x2i.runtime.inputs.pictures.subjects import SubjectsInput
from x2i.runtime.inputs.text.marker import MarkerInput
from x2i.runtime.processes.segment import Segment

from ..components.denoiser import denoiser_context
from ..components.projection import projection_stage
from ..components.subjects import objects_component, postfuse_component
from ..components.text import clip_component
from ..plan import ExportPlan
from ..system import Build, SystemSpec, consume
from .base import TOKENIZER, base_components, base_plan, base_text, read_base, require_text
from .lora import fold_loras

MARKER = "<|image|>"
RESOLUTION = 224
GUIDANCE = 5.0
DELAY = Delay(start_merge_step=10)
PLAIN = "plain_"


def build_fastcomposer(plan: ExportPlan) -> Build:
    """Raises CheckpointError for parts that do not fit one another, PlanError for a base without its text side."""
    base = read_base(plan)
    require_text(base, plan)
    if plan.random_weights is not None:
        parts = random_fastcomposer(plan.random_weights, base)
    else:
        parts = read_fastcomposer(plan.parts["checkpoint"], plan.parts["encoder"], base)
    base = fold_loras(replace(base, unet=parts.unet, text_encoder=parts.text_encoder), plan)
    text = base_text(base, plan, takes_mask=False)
    pictures = SubjectsInput(parts.vision.config.image_size, RESOLUTION)
    objects = GraphCall("image_encoder", {"pixels": "subjects_pixels"}, {"objects": "objects"})
    conditioners = (
        Conditioner((objects,), (pictures,)),
        Conditioner((text.stage, projection_stage("context", PLAIN)), (*text.inputs, MarkerInput(MARKER, marks=False))),
        Conditioner(
            (text.stage, _fusion(), projection_stage("context")), (*text.inputs, MarkerInput(MARKER, marks=True))
        ),
    )
    components = [
        objects_component(parts.vision),
        postfuse_component(parts.postfuse),
        clip_component(text.encoder, text.prompt.window, skipped=text.prompt.clip_skip),
        *base_components(base),
    ]
    plan_data = base_plan(base, conditioners, None, "diffusers", guidance=GUIDANCE)
    process = replace(plan_data.latents, segments=_segments(plan_data.latents.schedule.train_steps, base.fills))
    plan_data = replace(plan_data, processes=(process,))
    return Build(plan_data, {TOKENIZER: text.tokenizer_json}, consume(components), len(components), text.notes)


def _fusion() -> GraphCall:
    inputs = {name: name for name in ("context", "objects", "object_index")}
    return GraphCall("postfuse", inputs, {"fused": "context"})


def _segments(first: float, fills: bool) -> tuple[Segment, ...]:
    """The same denoiser twice: it reads the words alone, and from the delay on the subjects with them."""
    return (
        Segment("denoiser", first, denoiser_context(fills=fills, slots=PLAIN)),
        Segment("denoiser", first, denoiser_context(fills=fills), DELAY),
    )


SYSTEM = SystemSpec(
    build_fastcomposer,
    required={
        "checkpoint": "pytorch_model.bin (or .safetensors), the whole model",
        "encoder": "the folder of the CLIP it was trained from, of which config.json will do",
    },
    optional={"tokenizer": "the CLIP tokenizer's folder, for a CompVis base"},
)
