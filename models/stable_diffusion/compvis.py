"""Stable Diffusion from one CompVis checkpoint: UNet, VAE and, where it is whole, CLIP's text encoder."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn

from ..readers.loading import Load, build_module, load_all_strictly
from ..readers.tensors import read_metadata, read_tensors
from .compvis_config import CompVisConfig
from .compvis_names import TEXT_PREFIX, UNET_PREFIX, VAE_PREFIX, linear_attention, text_names, unet_names, vae_names
from .scheduler import stored_scheduler

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextModel


# The schedule's buffers, the averaged weights that `use_ema: False` leaves unused, the training loss, other encoders.
EXTRAS = (
    "betas",
    "*alphas_cumprod*",
    "posterior_*",
    "lvlb_weights",
    "logvar",
    "scale_factor",
    "v_pred",
    "ztsnr",
    "model_ema.*",
    "first_stage_model.loss.*",
    "cond_stage_model.*",
)
TEXT_EXTRAS = ("*.position_ids", "cond_stage_model.logit_scale", "*.text_projection*")


class CompVisParts(NamedTuple):
    """What one CompVis file holds, in eval mode and float32; no text encoder where the file has none."""

    unet: "UNet2DConditionModel"
    vae: "AutoencoderKL"
    text_encoder: "CLIPTextModel | None"
    scheduler: dict[str, Any]


def read_compvis(path: Path, config: CompVisConfig) -> CompVisParts:
    """The parts of a CompVis `.ckpt` or `.safetensors`, in eval mode and float32.

    Every key of the file is accounted for: a parameter, or one of the known extras. A text encoder is read where the
    file holds one with its embeddings and layers. Raises CheckpointError with everything that does not fit.
    """
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    tensors = linear_attention(read_tensors(path))
    unet = build_module(lambda: UNet2DConditionModel(**config.unet), config.source)
    vae = build_module(lambda: AutoencoderKL(**config.vae), config.source)
    attends = ["CrossAttn" in each for each in config.unet["down_block_types"]]
    parts: list[tuple[nn.Module, str, Mapping[str, str], tuple[str, ...]]] = [
        (unet, UNET_PREFIX, unet_names(unet, config.unet["layers_per_block"], attends), ()),
        (vae, VAE_PREFIX, vae_names(vae, len(config.vae["block_out_channels"])), ("first_stage_model.loss.*",)),
    ]
    text_encoder = _text_encoder(tensors, config)
    if text_encoder is not None:
        parts.append((text_encoder, TEXT_PREFIX, text_names(text_encoder), TEXT_EXTRAS))
    loads = [
        Load(module, _under(tensors, prefix), f"{path} ({prefix}*) with {config.source}", ignore, names)
        for module, prefix, names, ignore in parts
    ]
    problems = _unknown(path, tensors)
    scheduler = stored_scheduler(path, tensors, read_metadata(path), config.scheduler, config.source, problems)
    load_all_strictly(loads, problems)
    return CompVisParts(unet, vae, text_encoder, scheduler)


def _text_encoder(tensors: Mapping[str, Tensor], config: CompVisConfig) -> "CLIPTextModel | None":
    from transformers import CLIPTextConfig, CLIPTextModel

    model = TEXT_PREFIX + "text_model."
    layers = any(key.startswith(model + "encoder.layers.") for key in tensors)
    if not (layers and model + "embeddings.token_embedding.weight" in tensors):
        return None
    return build_module(lambda: CLIPTextModel(CLIPTextConfig(**config.text_encoder)), config.source)


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key: value for key, value in tensors.items() if key.startswith(prefix)}


def _unknown(path: Path, tensors: Mapping[str, Tensor]) -> list[str]:
    unknown = [
        f"  unexpected {key} {list(value.shape)}"
        for key, value in tensors.items()
        if not key.startswith((UNET_PREFIX, VAE_PREFIX)) and not any(fnmatchcase(key, extra) for extra in EXTRAS)
    ]
    if not unknown:
        return []
    return [f"{path}: expected a CompVis checkpoint's keys only, got {len(unknown)} others; fix: remove them", *unknown]
