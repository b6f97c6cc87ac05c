"""CLIP's text encoder from whichever layout a file has it in: transformers' or OpenCLIP's names, behind any prefix."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..errors import CheckpointError
from ..readers.loading import Load, build_module

if TYPE_CHECKING:
    from transformers import CLIPTextModel


EMBEDDING = "embeddings.token_embedding.weight"
"""How the key ends by which transformers' layout is known; what stands before it is the prefix of all keys."""
OPEN_CLIP_EMBEDDING, OPEN_CLIP_LAYERS = "token_embedding.weight", "transformer.resblocks."
# What published files hold beside the encoder: buffers, the projection to the shared space, CLIP's other tower.
EXTRAS = ("*position_ids", "*text_projection*", "*logit_scale", "*attn_mask", "*vision_model.*", "*visual_projection.*")
_OPEN_CLIP = {
    "embeddings.token_embedding.": "token_embedding.",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.": "ln_final.",
    "encoder.layers.": OPEN_CLIP_LAYERS,
    ".layer_norm1.": ".ln_1.",
    ".layer_norm2.": ".ln_2.",
    ".self_attn.out_proj.": ".attn.out_proj.",
    ".mlp.fc1.": ".mlp.c_fc.",
    ".mlp.fc2.": ".mlp.c_proj.",
}
_IN_PROJECTION = re.compile(r"(.*\.attn\.in_proj)_(weight|bias)")
_QUERY_KEY_VALUE = ("q", "k", "v")


@dataclass(frozen=True, slots=True)
class TextLayout:
    """How a file names the encoder: all keys begin with `prefix`; `open_clip` says in whose terms they go on."""

    prefix: str
    open_clip: bool


def text_layout(keys: Mapping[str, Any]) -> TextLayout | None:
    """The layout of the text encoder among a file's keys, None where there is none with embeddings and layers.

    transformers' keys begin with nothing, `text_model.`, `transformer.text_model.`, `cond_stage_model.transformer.`,
    and so on; OpenCLIP's with `cond_stage_model.model.`, for one.
    """
    for key in keys:
        if key.endswith(EMBEDDING):
            prefix = key.removesuffix(EMBEDDING)
            if any(other.startswith(f"{prefix}encoder.layers.") for other in keys):
                return TextLayout(prefix, open_clip=False)
    for key in keys:
        if key.endswith(OPEN_CLIP_EMBEDDING):
            prefix = key.removesuffix(OPEN_CLIP_EMBEDDING)
            if any(other.startswith(prefix + OPEN_CLIP_LAYERS) for other in keys):
                return TextLayout(prefix, open_clip=True)
    return None


def text_settings(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """The text half of a whole CLIP's settings, or the settings as they are."""
    half = settings.get("text_config")
    return half if settings.get("model_type") == "clip" and isinstance(half, Mapping) else settings


def empty_text_encoder(settings: Mapping[str, Any], source: str) -> "CLIPTextModel":
    """The encoder of these settings (transformers' CLIPTextConfig, or a whole CLIP's), its weights unwritten.

    Raises CheckpointError, in which `source` names the settings, where they are another model's.
    """
    from transformers import CLIPTextConfig, CLIPTextModel

    settings = text_settings(settings)
    if settings.get("model_type", "clip_text_model") != "clip_text_model":
        raise CheckpointError(
            f"{source}: expected model_type 'clip_text_model', got {settings.get('model_type')!r}; "
            "fix: give a Stable Diffusion base, whose prompts CLIP reads"
        )
    return build_module(lambda: CLIPTextModel(CLIPTextConfig.from_dict(dict(settings))), source)


def text_encoder_load(model: "CLIPTextModel", tensors: Mapping[str, Tensor], source: str) -> Load:
    """What fills the encoder from the tensors of a file in any layout.

    Layers of an OpenCLIP file behind the model's last are left out: Stable Diffusion 2 reads the last but one.
    """
    layout = text_layout(tensors) or TextLayout("text_model.", open_clip=False)
    own = {key: value for key, value in tensors.items() if key.startswith(layout.prefix)}
    plain = {key: key.removeprefix("text_model.") for key in model.state_dict()}
    if not layout.open_clip:
        return Load(model, own, source, EXTRAS, {key: layout.prefix + name for key, name in plain.items()})
    names = {key: layout.prefix + _open_clip_name(name) for key, name in plain.items()}
    last = model.config.num_hidden_layers
    unread = re.compile(re.escape(layout.prefix + OPEN_CLIP_LAYERS) + r"(\d+)\..*")
    kept = {
        key: value
        for key, value in _split_projections(own).items()
        if not ((found := unread.fullmatch(key)) and int(found[1]) == last)
    }
    return Load(model, kept, source, EXTRAS, names)


def _open_clip_name(name: str) -> str:
    found = re.fullmatch(r"encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)", name)
    if found:
        return f"{OPEN_CLIP_LAYERS}{found[1]}.attn.in_proj_{found[3]}[{found[2]}]"
    for ours, theirs in _OPEN_CLIP.items():
        name = name.replace(ours, theirs)
    return name


def _split_projections(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """OpenCLIP's projections to query, key and value are one tensor, [3 C, ...]: here they are three views of it."""
    split: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if _IN_PROJECTION.fullmatch(key) and value.ndim and value.shape[0] % 3 == 0:
            parts = zip(_QUERY_KEY_VALUE, value.chunk(3), strict=True)
            split |= {f"{key}[{letter}]": part for letter, part in parts}
        else:
            split[key] = value
    return split
