"""`sd`: Stable Diffusion v1 with its own CLIP text encoder."""

from typing import TYPE_CHECKING

from x2i.runtime.plan import Conditioner

from ..projection import projection_stage
from ..text import clip_component
from .base import COMPVIS_SAMPLING, DIFFUSERS_SAMPLING, base_components, base_plan, read_base
from .base_text import CLIP_STAGES, TOKENIZER, base_text
from .system import Build, SystemSpec, drained

if TYPE_CHECKING:
    from ..plan import ExportPlan


def build(plan: "ExportPlan") -> Build:
    """Raises PlanError when the base brings no text encoder or tokenizer, or one of another width."""
    base = read_base(plan)
    text = base_text(base, str(plan.base))
    conditioner = Conditioner((*CLIP_STAGES, projection_stage("context")), text.given)
    components = [clip_component(text.encoder, text.given.window), *base_components(base)]
    sampler = COMPVIS_SAMPLING if base.layout == "compvis" else DIFFUSERS_SAMPLING
    return Build(
        base_plan(base, (conditioner,), sampler, base.layout),
        {TOKENIZER: text.tokenizer_json},
        drained(components),
        len(components),
    )


SYSTEM = SystemSpec(build, optional={"tokenizer": "the CLIP tokenizer's folder, for a CompVis base"})
