"""Stable Diffusion from one CompVis checkpoint: UNet, VAE and, where it is whole, CLIP's text encoder."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from ..clip.published_tokenizer import PublishedTokenizer
from ..clip.text_encoder import TextLayout, empty_text_encoder, text_encoder_load, text_layout
from ..errors import CheckpointError, read_all
from ..readers.loading import Load, build_module, load_all_strictly
from ..readers.tensors import read_metadata, read_tensors
from .compvis_config import V1_SOURCE, CompVisConfig
from .compvis_names import TEXT_PREFIX, UNET_PREFIX, VAE_PREFIX, unet_names
from .drawable import channel_problems, text_problems, unet_problems
from .scheduler import stored_scheduler
from .vae import empty_vae, vae_load

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextModel


# The schedule's buffers and marks of what the UNet predicts, the averaged weights that `use_ema: False` leaves unused,
# the training loss, other encoders, progress of training.
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
    "embedding_manager.*",
    "global_step",
)


class CompVisParts(NamedTuple):
    """What one CompVis file holds, in eval mode and float32; no text encoder where the file has none.

    `open_clip` says that the encoder is OpenCLIP's, whose prompts are padded with the token of id 0.
    """

    unet: "UNet2DConditionModel"
    vae: "AutoencoderKL | AutoencoderTiny"
    text_encoder: "CLIPTextModel | None"
    scheduler: dict[str, Any]
    open_clip: bool


def read_compvis(
    path: Path,
    config: CompVisConfig,
    vae: "AutoencoderKL | AutoencoderTiny | None",
    tokenizer: PublishedTokenizer | None,
    reads_text: bool,
    inpainting: bool = False,
) -> CompVisParts:
    """The parts of a CompVis `.ckpt` or `.safetensors`, in eval mode and float32.

    `vae` stands in for the file's own; `tokenizer` is only held against the text encoder; `inpainting` is what the UNet
    is for.

    Every key of the file is accounted for: a parameter, or one of the known extras. A text encoder is read where it is
    wanted and the file holds one with its embeddings and layers. Raises CheckpointError with everything that does not
    fit.
    """
    tensors = read_tensors(path)
    layout = text_layout(_under(tensors, TEXT_PREFIX)) if reads_text else None
    unet, own_vae, text_encoder, _ = read_all(
        lambda: _empty_unet(config),
        lambda: empty_vae(config.vae, config.source) if vae is None else vae,
        lambda: empty_text_encoder(config.text_encoder, config.source) if layout is not None else None,
        lambda: _require_fit(config, vae, tokenizer, layout, inpainting),
    )
    loads = [_unet_load(unet, tensors, path, config)]
    if vae is None:
        source = _source(path, VAE_PREFIX, config)
        loads.append(vae_load(own_vae, _under(tensors, VAE_PREFIX), source, absent=VAE_PREFIX))
    if layout is not None:
        own = _under(tensors, layout.prefix)
        loads.append(text_encoder_load(text_encoder, own, _source(path, layout.prefix, config)))
    problems = _unknown(path, tensors)
    scheduler = stored_scheduler(path, tensors, read_metadata(path), config.scheduler, config.source, problems)
    load_all_strictly(loads, problems)
    return CompVisParts(unet, own_vae, text_encoder, scheduler, layout is not None and layout.open_clip)


def _empty_unet(config: CompVisConfig) -> "UNet2DConditionModel":
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    if problems := unet_problems(config.unet, config.source):
        raise CheckpointError(*problems)
    return build_module(lambda: UNet2DConditionModel(**config.unet), config.source)


def _require_fit(
    config: CompVisConfig,
    vae: "AutoencoderKL | AutoencoderTiny | None",
    tokenizer: PublishedTokenizer | None,
    layout: TextLayout | None,
    inpainting: bool,
) -> None:
    problems = channel_problems(config.unet, config.vae if vae is None else vae.config, config.source, inpainting)
    if layout is not None:
        problems += text_problems(config.unet, config.text_encoder, tokenizer, config.source)
    if layout is not None and layout.open_clip and config.source == V1_SOURCE:
        problems = [
            f"{config.source}: expected CLIP's text encoder, got OpenCLIP's ({layout.prefix}*), as in Stable Diffusion "
            "2; fix: give its authors' YAML as --base-config, which also says what the UNet predicts"
        ]
    if problems:
        raise CheckpointError(*problems)


def _unet_load(unet: "UNet2DConditionModel", tensors: Mapping[str, Tensor], path: Path, config: CompVisConfig) -> Load:
    attends = ["CrossAttn" in each for each in config.unet["down_block_types"]]
    names = unet_names(unet, config.unet["layers_per_block"], attends)
    return Load(unet, _under(tensors, UNET_PREFIX), _source(path, UNET_PREFIX, config), (), names)


def _source(path: Path, prefix: str, config: CompVisConfig) -> str:
    return f"{path} ({prefix}*) with {config.source}"


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
