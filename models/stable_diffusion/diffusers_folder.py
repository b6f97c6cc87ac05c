"""Stable Diffusion from a folder in diffusers' layout, in full or half precision, whole or in shards."""

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn

from ..clip.tokenizer import clip_pad_token, clip_tokenizer_json
from ..errors import CheckpointError
from ..readers.loading import Load, build_module, load_all_strictly
from ..readers.weights_folder import find_weights, read_json, read_weights
from .scheduler import read_scheduler

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextModel


STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
# The VAE's attention as diffusers named it before version 0.16.
_OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


class FolderParts(NamedTuple):
    """What a folder in diffusers' layout holds, in eval mode and float32; None for a part that it lacks."""

    unet: "UNet2DConditionModel"
    vae: "AutoencoderKL"
    text_encoder: "CLIPTextModel | None"
    tokenizer_json: str | None
    pad_token: str | None
    scheduler: dict[str, Any]


def read_diffusers_folder(folder: Path) -> FolderParts:
    """All parts of a Stable Diffusion v1 folder, in eval mode and float32; text encoder and tokenizer where present.

    Raises CheckpointError with every absent file, every unfit setting, or every key of every part that does not fit.
    """
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    _require_files(folder)
    scheduler = read_scheduler(folder)
    unet = _empty(UNet2DConditionModel, folder / "unet")
    vae = _empty(AutoencoderKL, folder / "vae")
    loads = [_load(unet, folder / "unet"), _load(vae, folder / "vae")]
    text_encoder = None
    if (folder / "text_encoder").is_dir():
        text_encoder = _empty_text_encoder(folder / "text_encoder" / "config.json")
        loads.append(_load(text_encoder, folder / "text_encoder"))
    load_all_strictly(loads)
    tokenizer = folder / "tokenizer"
    has_tokenizer = tokenizer.is_dir()
    return FolderParts(
        unet,
        vae,
        text_encoder,
        clip_tokenizer_json(tokenizer) if has_tokenizer else None,
        clip_pad_token(tokenizer) if has_tokenizer else None,
        scheduler,
    )


def lacks_weights(folder: Path) -> list[str]:
    """The parts of a folder that have a configuration but no weights."""
    parts = ("unet", "vae", "text_encoder")
    return [
        part for part in parts if (folder / part / "config.json").is_file() and not find_weights(folder / part, *STEMS)
    ]


def _require_files(folder: Path) -> None:
    wanted = ["scheduler/scheduler_config.json", "unet/config.json", "vae/config.json"]
    if (folder / "text_encoder").is_dir():
        wanted.append("text_encoder/config.json")
    absent = [name for name in wanted if not (folder / name).is_file()]
    problems = [f"{folder}: expected {name}, got nothing; fix: give a Stable Diffusion v1 folder" for name in absent]
    problems += [
        f"{folder}: expected weights in {part}/, got none; fix: download {part}/{STEMS[0]}.safetensors"
        for part in lacks_weights(folder)
    ]
    if problems:
        raise CheckpointError(*problems)


def _empty(kind: Any, folder: Path) -> Any:
    """The module of a diffusers configuration; settings its class does not know must be off."""
    source = str(folder / "config.json")
    settings = read_json(folder / "config.json")
    name = settings.get("_class_name", kind.__name__)
    if name != kind.__name__:
        raise CheckpointError(f"{source}: expected {kind.__name__}, got {name}; fix: give a Stable Diffusion v1 folder")
    given = {key: value for key, value in settings.items() if not key.startswith("_")}
    known = inspect.signature(kind.__init__).parameters
    unknown = [key for key, value in given.items() if key not in known and value not in (None, False)]
    if unknown:
        raise CheckpointError(
            f"{source}: expected settings of {kind.__name__}, got unknown {', '.join(unknown)}; "
            "fix: install the version of diffusers that knows them"
        )
    return build_module(lambda: kind(**{key: value for key, value in given.items() if key in known}), source)


def _empty_text_encoder(file: Path) -> "CLIPTextModel":
    from transformers import CLIPTextConfig, CLIPTextModel

    settings = read_json(file)
    if settings.get("model_type") != "clip_text_model":
        raise CheckpointError(
            f"{file}: expected model_type 'clip_text_model', got {settings.get('model_type')!r}; "
            "fix: give a Stable Diffusion v1 folder"
        )
    return build_module(lambda: CLIPTextModel(CLIPTextConfig.from_dict(settings)), str(file))


def _load(module: nn.Module, folder: Path) -> Load:
    tensors = read_weights(folder, *STEMS)
    return Load(module, tensors, str(folder), ("*.position_ids",), _published_names(module, tensors))


def _published_names(module: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Where a part's file was written by another version: CLIP's prefix, and the VAE's older attention."""
    keys = list(module.state_dict())
    if any(key.startswith("text_model.") for key in tensors):
        return {key: "text_model." + key.removeprefix("text_model.") for key in keys}
    if any(".query." in key for key in tensors):
        return {key: _old_name(key) for key in keys}
    return {key: key.removeprefix("text_model.") for key in keys}


def _old_name(key: str) -> str:
    for new, old in _OLD_ATTENTION.items():
        key = re.sub(rf"(mid_block\.attentions\.\d+)\.{re.escape(new)}\.", rf"\1.{old}.", key)
    return key
