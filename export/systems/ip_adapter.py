"""`ip-adapter`: reference pictures beside the prompt, by a second cross-attention.

Source: IP-Adapter (arXiv 2308.06721); sampling defaults are Stable Diffusion's, the strength is the 0.6 its authors
advise beside a prompt.
"""

from x2i.models.clip.vision import read_clip_vision_projection
from x2i.models.random.weights import random_ip_adapter
from x2i.models.subjects.ip_adapter import IpAdapterTokens
from x2i.models.subjects.ip_adapter_checkpoint import read_ip_adapter
from x2i.runtime.bundle.calls import GraphCall
from x2i.runtime.bundle.plan import Conditioner
from x2i.runtime.inputs.pictures.image import ImageInput
from x2i.runtime.inputs.strength import Injection

from ..components.projection import projection_stage
from ..components.text import clip_component
from ..components.vision import image_tokens_component
from ..plan import ExportPlan
from ..system import Build, SystemSpec, consume
from .base import TOKENIZER, base_components, base_plan, base_text, read_base
from .lora import fold_loras

INJECTION = Injection(strength=0.6, at_word=False, unconditional=True)


def build_ip_adapter(plan: ExportPlan) -> Build:
    """Raises PlanError and CheckpointError for parts that are not Stable Diffusion v1's IP-Adapter."""
    base = fold_loras(read_base(plan), plan)
    text = base_text(base, plan)
    if plan.random_weights is not None:
        vision, adapter = random_ip_adapter(plan.random_weights, base.unet)
    else:
        vision = read_clip_vision_projection(plan.parts["encoder"])
        adapter = read_ip_adapter(plan.parts["adapter"], base.unet, vision)
    image_stages = (
        GraphCall("image_encoder", {"pixels": "image_pixels"}, {"tokens": "image_tokens"}),
        projection_stage("image_tokens", local=True),
    )
    conditioners = (
        Conditioner(image_stages, (ImageInput(vision.config.image_size),)),
        Conditioner((text.stage, projection_stage("context")), text.inputs),
    )
    components = [
        image_tokens_component(IpAdapterTokens(vision, adapter.projection)),
        clip_component(text.encoder, text.prompt.window, text.masks, text.prompt.clip_skip),
        *base_components(base, adapter.weights),
    ]
    plan_data = base_plan(base, conditioners, None, base.layout, INJECTION)
    return Build(plan_data, {TOKENIZER: text.tokenizer_json}, consume(components), len(components), text.notes)


SYSTEM = SystemSpec(
    build_ip_adapter,
    required={
        "encoder": "the folder of CLIP's vision tower with projection (models/image_encoder of its authors)",
        "adapter": "ip-adapter_sd15.safetensors or .bin",
    },
    optional={"tokenizer": "the CLIP tokenizer's folder, for a CompVis base"},
)
