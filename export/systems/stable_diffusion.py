"""`sd`: Stable Diffusion v1 with its own CLIP text encoder."""

from typing import TYPE_CHECKING

from tokenizers import Tokenizer
from x2i.models.stable_diffusion import StableDiffusion
from x2i.runtime.plan import Conditioner, Stage, TextInput

from ..errors import PlanError
from ..text import clip_component
from .base import COMPVIS_SAMPLING, DIFFUSERS_SAMPLING, base_components, base_plan, read_base
from .system import Build, SystemSpec, drained

if TYPE_CHECKING:
    from ..plan import ExportPlan

TOKENIZER = "tokenizer.json"


def build(plan: "ExportPlan") -> Build:
    """Raises PlanError when the base brings no text encoder or tokenizer, or one of another width."""
    base = read_base(plan)
    if base.text_encoder is None or base.tokenizer_json is None:
        lacking = "text encoder" if base.text_encoder is None else "tokenizer"
        raise PlanError(
            f"--base {plan.base}: expected a base with its text encoder and tokenizer, got one without a "
            f"{lacking}; use the diffusers folder, or add --part tokenizer=FOLDER"
        )
    config, width = base.text_encoder.config, base.unet.config.cross_attention_dim
    if config.hidden_size != width:
        raise PlanError(f"text encoder: expected a width of {width} as the UNet reads, got {config.hidden_size}")
    window = config.max_position_embeddings
    conditioner = Conditioner(
        TextInput(TOKENIZER, window, _pad_id(base)),
        (Stage("text_encoder", {"input_ids": "input_ids"}, {"context": "context"}),),
    )
    components = [clip_component(base.text_encoder, window), *base_components(base, window)]
    sampler = COMPVIS_SAMPLING if base.layout == "compvis" else DIFFUSERS_SAMPLING
    return Build(
        base_plan(base, conditioner, sampler, base.layout),
        {TOKENIZER: base.tokenizer_json},
        drained(components),
        len(components),
    )


def _pad_id(base: StableDiffusion) -> int:
    assert base.tokenizer_json is not None and base.pad_token is not None
    found = Tokenizer.from_str(base.tokenizer_json).token_to_id(base.pad_token)
    assert found is not None, "the reader vouched for the padding token"
    return found


SYSTEM = SystemSpec(build, optional={"tokenizer": "the CLIP tokenizer's folder, for a CompVis base"})
