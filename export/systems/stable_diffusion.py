"""`sd`: Stable Diffusion v1 with its own CLIP text encoder."""

from x2i.runtime.bundle.plan import Conditioner

from ..components.projection import projection_stage
from ..components.text import clip_component
from ..plan import ExportPlan
from ..sampling.defaults import COMPVIS_SAMPLING
from ..system import Build, SystemSpec, consume
from .base import TOKENIZER, base_components, base_plan, base_text, read_base
from .lora import fold_loras


def build_stable_diffusion(plan: ExportPlan) -> Build:
    """Raises PlanError when the base brings no text encoder or tokenizer, or one of another width."""
    base = fold_loras(read_base(plan), plan)
    text = base_text(base, plan)
    conditioner = Conditioner((text.stage, projection_stage("context")), text.inputs)
    components = [
        clip_component(text.encoder, text.prompt.window, text.masks, text.prompt.clip_skip),
        *base_components(base),
    ]
    sampler = COMPVIS_SAMPLING if base.layout == "compvis" else None
    plan_data = base_plan(base, (conditioner,), sampler, base.layout)
    return Build(plan_data, {TOKENIZER: text.tokenizer_json}, consume(components), len(components), text.notes)


SYSTEM = SystemSpec(
    build_stable_diffusion,
    compvis_sampler=COMPVIS_SAMPLING,
    optional={"tokenizer": "the CLIP tokenizer's folder, for a CompVis base"},
)
