"""The base's own text encoder and tokenizer, for the systems that write their prompts with it."""

from dataclasses import dataclass

from tokenizers import Tokenizer
from transformers import CLIPTextModel
from x2i.models.stable_diffusion import StableDiffusion
from x2i.runtime.inputs import TextInput
from x2i.runtime.plan import Stage

from ..errors import PlanError

TOKENIZER = "tokenizer.json"
CLIP_STAGES = (Stage("text_encoder", {"input_ids": "input_ids"}, {"context": "context"}),)


@dataclass(frozen=True, slots=True)
class BaseText:
    """CLIP's text encoder, its tokenizer's JSON, and the plan's input for its prompts."""

    encoder: CLIPTextModel
    tokenizer_json: str
    given: TextInput


def base_text(base: StableDiffusion, name: str) -> BaseText:
    """The base's text side; raises PlanError when it has none, or one of another width than the UNet reads."""
    if base.text_encoder is None or base.tokenizer_json is None:
        lacking = "text encoder" if base.text_encoder is None else "tokenizer"
        raise PlanError(
            f"--base {name}: expected a base with its text encoder and tokenizer, got one without a "
            f"{lacking}; use the diffusers folder, or add --part tokenizer=FOLDER"
        )
    config, width = base.text_encoder.config, base.unet.config.cross_attention_dim
    if config.hidden_size != width:
        raise PlanError(f"text encoder: expected a width of {width} as the UNet reads, got {config.hidden_size}")
    assert base.pad_token is not None
    pad = Tokenizer.from_str(base.tokenizer_json).token_to_id(base.pad_token)
    assert pad is not None, "the reader vouched for the padding token"
    given = TextInput(TOKENIZER, config.max_position_embeddings, pad)
    return BaseText(base.text_encoder, base.tokenizer_json, given)
