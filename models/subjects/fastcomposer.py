"""FastComposer's fusion, in which a subject's picture joins the text at its word, and its published checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..clip.vision import PREFIX, PROJECTION, empty_clip_vision_projection
from ..errors import CheckpointError, read_all
from ..readers.loading import Load, build_module, load_all_strictly
from ..readers.tensors import read_tensors
from ..stable_diffusion.base import StableDiffusion

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPVisionModelWithProjection


class FusionBlock(nn.Module):
    """[..., width_in] -> [..., width_out]: LayerNorm, linear, exact GELU, linear. The caller adds the residual."""

    def __init__(self, width_in: int, width_out: int):
        super().__init__()
        self.layernorm = nn.LayerNorm(width_in)
        self.fc1 = nn.Linear(width_in, width_out)
        self.fc2 = nn.Linear(width_out, width_out)

    def forward(self, features: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(self.layernorm(features))))


class Postfuse(nn.Module):
    """`forward(context [B, T, E], objects [1 or B, n, E], object_index int64 [B, T])` gives the context [B, T, E].

    Where object_index is k >= 0, the text's vector and that of object k become one; where it is -1, the text's vector
    stays as it is. The caller sees to object_index < n, and to n >= 1. Key names are the released checkpoint's own.
    Source: FastComposer (arXiv 2305.10431) and its reference code.
    """

    def __init__(self, width: int):
        super().__init__()
        self.width = width
        self.mlp1 = FusionBlock(2 * width, width)
        self.mlp2 = FusionBlock(width, width)
        self.layer_norm = nn.LayerNorm(width)

    def forward(self, context: Tensor, objects: Tensor, object_index: Tensor) -> Tensor:
        chosen = object_index.clamp(min=0).unsqueeze(-1).expand(-1, -1, self.width)
        placed = objects.expand(context.shape[0], -1, -1).gather(1, chosen)
        joined = self.mlp1(torch.cat([context, placed], -1)) + context
        fused = self.layer_norm(self.mlp2(joined) + joined)
        return torch.where((object_index >= 0).unsqueeze(-1), fused, context)


UNET, TEXT, VISION, POSTFUSE = "unet.", "text_encoder.", "image_encoder.", "postfuse_module."
UNUSED = "vae."
"""The base's own VAE decodes; the checkpoint may hold one, of any age, or none."""
OTHERS = {
    "model.diffusion_model.": "a CompVis checkpoint, which is a base",
    "down_blocks.": "a UNet alone",
    "mapping_0.": "a mapper of ELITE's",
    "image_proj.": "an IP-Adapter",
    "text_model.": "a CLIP",
    "vision_model.": "CLIP's vision tower",
    "mlp1.": "the postfuse module alone",
}
"""What is mistaken for it, by a key's beginning."""


@dataclass(frozen=True, slots=True)
class FastComposerCheckpoint:
    """What drawing needs of the file, in eval mode and float32.

    The vision tower's `image_embeds` [n, E] of n subjects' pictures are the objects that `postfuse` reads.
    """

    vision: "CLIPVisionModelWithProjection"
    unet: "UNet2DConditionModel"
    text_encoder: "CLIPTextModel"
    postfuse: Postfuse


def read_fastcomposer(checkpoint: str | Path, encoder: str | Path, base: StableDiffusion) -> FastComposerCheckpoint:
    """FastComposer from `pytorch_model.bin` or `.safetensors`, of any floating dtypes.

    UNet and text encoder are configured as the base's; `encoder` is the CLIP folder that training started from, of
    which only the configuration is read. Raises CheckpointError with the problems of all modules, in the file's names.
    """
    assert base.text_encoder is not None, "a base without its text side"
    vision, tensors = read_all(lambda: empty_clip_vision_projection(encoder), lambda: _tensors(checkpoint))
    problems = _width_problems(encoder, vision, base)
    parts = FastComposerCheckpoint(vision, *_empty(checkpoint, base))
    problems += _stray_problems(checkpoint, tensors)
    modules = {UNET: parts.unet, TEXT: parts.text_encoder, VISION: vision, POSTFUSE: parts.postfuse}
    loads = [_load(module, prefix, tensors, checkpoint) for prefix, module in modules.items()]
    load_all_strictly([load for load in loads if load.tensors], problems)
    return parts


def _empty(checkpoint: str | Path, base: StableDiffusion) -> tuple["UNet2DConditionModel", "CLIPTextModel", Postfuse]:
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel

    assert base.text_encoder is not None
    text_config = base.text_encoder.config
    return (
        build_module(lambda: UNet2DConditionModel.from_config(base.unet.config), str(checkpoint)),
        build_module(lambda: CLIPTextModel(text_config), str(checkpoint)),
        build_module(lambda: Postfuse(text_config.hidden_size), str(checkpoint)),
    )


def _tensors(checkpoint: str | Path) -> dict[str, Tensor]:
    """The file's tensors; CheckpointError, in words, for another kind of file."""
    tensors = read_tensors(checkpoint)
    if not any(key.startswith((UNET, TEXT, VISION, POSTFUSE)) for key in tensors):
        got = [name for mark, name in OTHERS.items() if any(key.startswith(mark) for key in tensors)]
        got.append(f"keys such as {', '.join(list(tensors)[:3])}")
        raise CheckpointError(
            f"{checkpoint}: expected FastComposer's whole model (keys {UNET}*, {TEXT}*, {VISION}* and {POSTFUSE}*), "
            f"got {got[0]}; "
            "fix: give its pytorch_model.bin"
        )
    return tensors


def _stray_problems(checkpoint: str | Path, tensors: Mapping[str, Tensor]) -> list[str]:
    """Modules that are wholly absent, a line each, and keys of none."""
    prefixes = (UNET, TEXT, VISION, POSTFUSE)
    problems = [
        f"{checkpoint}: expected keys that begin with {prefix}, got none; fix: give the whole pytorch_model.bin"
        for prefix in prefixes
        if not any(key.startswith(prefix) for key in tensors)
    ]
    strays = [key for key in tensors if not key.startswith((*prefixes, UNUSED))]
    if strays:
        problems += [
            f"{checkpoint}: expected keys that begin with {', '.join((*prefixes, UNUSED))}, got {len(strays)} others; "
            "fix: give the checkpoint as it was published",
            *(f"  unexpected {key} {list(tensors[key].shape)}" for key in strays),
        ]
    return problems


def _width_problems(encoder: str | Path, vision: "CLIPVisionModelWithProjection", base: StableDiffusion) -> list[str]:
    assert base.text_encoder is not None
    width, projected = base.text_encoder.config.hidden_size, vision.config.projection_dim
    if projected == width:
        return []
    return [
        f"{encoder}: expected a CLIP that projects to the text encoder's width, {width}, got one that projects to "
        f"{projected}; fix: give the CLIP that it was trained from (ViT-L/14 for Stable Diffusion v1)"
    ]


def _load(module: nn.Module, prefix: str, tensors: Mapping[str, Tensor], checkpoint: str | Path) -> Load:
    own = {key: value for key, value in tensors.items() if key.startswith(prefix)}
    names = {key: prefix + _published(prefix, key) for key in module.state_dict()}
    return Load(module, own, f"{checkpoint} ({prefix}*)", ("*.position_ids",), names)


def _published(prefix: str, key: str) -> str:
    """Libraries' versions differ in the level above CLIP's towers: the file has it for one and not for the other."""
    if prefix == TEXT:
        return key.removeprefix("text_model.")
    if prefix == VISION and not key.startswith(PROJECTION):
        return PREFIX + key.removeprefix(PREFIX)
    return key
