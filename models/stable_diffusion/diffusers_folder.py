"""Stable Diffusion from a folder in diffusers' layout, in full or half precision, whole or in shards."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn

from ..clip.published_tokenizer import PublishedTokenizer, read_clip_tokenizer
from ..clip.text_encoder import empty_text_encoder, text_encoder_load, text_settings
from ..errors import CheckpointError, read_all
from ..readers.loading import Load, load_all_strictly
from ..readers.weights_folder import find_weights, read_json, read_weights
from .diffusers_config import STEMS, build_published, names_of_any_age
from .drawable import channel_problems, ignored_notes, latent_size, size_notes, text_problems, unet_problems
from .scheduler import read_scheduler
from .vae import empty_vae, vae_load

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextModel


# The classes that a folder's index may name for a part, beside those that read the part's own configuration.
CLASSES = {
    "text_encoder": ("CLIPTextModel", "CLIPTextModelWithProjection"),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
}


class FolderParts(NamedTuple):
    """What a folder in diffusers' layout holds, in eval mode and float32; None for a part that it lacks or that is not
    wanted. `notes` say in one line each what was read in another way than it is written."""

    unet: "UNet2DConditionModel"
    vae: "AutoencoderKL | AutoencoderTiny"
    text_encoder: "CLIPTextModel | None"
    tokenizer: PublishedTokenizer | None
    scheduler: dict[str, Any]
    notes: tuple[str, ...]


def read_diffusers_folder(
    folder: Path,
    vae: "AutoencoderKL | AutoencoderTiny | None",
    tokenizer: PublishedTokenizer | None,
    reads_text: bool,
    inpainting: bool = False,
) -> FolderParts:
    """The parts of a Stable Diffusion folder, in eval mode and float32; text encoder and tokenizer where they are
    present and `reads_text`. `vae` and `tokenizer` stand in for the folder's own; `inpainting` is what its UNet is for.

    Raises CheckpointError with every absent or damaged file, every unfit setting of every part, or every key that does
    not fit.
    """
    has_text = reads_text and (folder / "text_encoder").is_dir()
    own_tokenizer = reads_text and tokenizer is None and (folder / "tokenizer").is_dir()
    parts = ["unet", *(["vae"] if vae is None else []), *(["text_encoder"] if has_text else [])]
    _require_files(folder, parts)
    tokenizer, *read = read_all(
        lambda: read_clip_tokenizer(folder / "tokenizer") if own_tokenizer else tokenizer,
        *(partial(read_json, folder / part / "config.json") for part in parts),
    )
    settings: dict[str, Mapping[str, Any]] = dict(zip(parts, read, strict=True))
    vae_settings = settings["vae"] if vae is None else vae.config
    scheduler, unet, own_vae, text_encoder, _ = read_all(
        lambda: read_scheduler(folder),
        lambda: _empty_unet(settings["unet"], str(folder / "unet" / "config.json")),
        lambda: empty_vae(vae_settings, str(folder / "vae" / "config.json")) if vae is None else vae,
        lambda: _empty_text_encoder(settings["text_encoder"], folder) if has_text else None,
        lambda: _require_fit(folder, settings, vae_settings, tokenizer, inpainting),
    )
    loads = [_load(unet, folder / "unet")]
    if vae is None:
        loads.append(vae_load(own_vae, read_weights(folder / "vae", *STEMS), str(folder / "vae")))
    if text_encoder is not None:
        tensors = read_weights(folder / "text_encoder", *STEMS)
        loads.append(text_encoder_load(text_encoder, tensors, str(folder / "text_encoder")))
    load_all_strictly(loads)
    notes = (*size_notes(settings["unet"], "unet"), *ignored_notes(vae_settings, "vae"))
    return FolderParts(unet, own_vae, text_encoder, tokenizer, scheduler, notes)


def lacks_weights(folder: Path, parts: tuple[str, ...] = ("unet", "vae", "text_encoder")) -> list[str]:
    """Those of the parts of a folder that have a configuration but no weights."""
    return [
        part for part in parts if (folder / part / "config.json").is_file() and not find_weights(folder / part, *STEMS)
    ]


def _require_files(folder: Path, parts: list[str]) -> None:
    wanted = ["scheduler/scheduler_config.json", *(f"{part}/config.json" for part in parts)]
    absent = [name for name in wanted if not (folder / name).is_file()]
    problems = [f"{folder}: expected {name}, got nothing; fix: give a Stable Diffusion folder" for name in absent]
    problems += [
        f"{folder}: expected weights in {part}/, got none; fix: download {part}/{STEMS[0]}.safetensors"
        for part in lacks_weights(folder, tuple(parts))
    ]
    if problems:
        raise CheckpointError(*problems)


def _empty_unet(settings: Mapping[str, Any], source: str) -> "UNet2DConditionModel":
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    if problems := unet_problems(settings, source):
        raise CheckpointError(*problems)
    sized = {**settings, "sample_size": latent_size(settings)}
    unet: UNet2DConditionModel = build_published(UNet2DConditionModel, sized, source)
    return unet


def _empty_text_encoder(settings: Mapping[str, Any], folder: Path) -> "CLIPTextModel":
    source = str(folder / "text_encoder" / "config.json")
    if "model_type" not in settings:
        raise CheckpointError(f"{source}: expected model_type 'clip_text_model', got none; fix: give CLIP's settings")
    return empty_text_encoder(settings, source)


def _require_fit(
    folder: Path,
    settings: Mapping[str, Mapping[str, Any]],
    vae: Mapping[str, Any],
    tokenizer: PublishedTokenizer | None,
    inpainting: bool,
) -> None:
    """Raises CheckpointError for parts that do not fit one another, or that the index names as other classes."""
    problems = channel_problems(settings["unet"], vae, str(folder), inpainting)
    if "text_encoder" in settings:
        problems += text_problems(settings["unet"], text_settings(settings["text_encoder"]), tokenizer, str(folder))
        problems += _class_problems(folder / "model_index.json")
    if problems:
        raise CheckpointError(*problems)


def _class_problems(file: Path) -> list[str]:
    index = read_json(file) if file.is_file() else {}
    problems = []
    for part, classes in CLASSES.items():
        named = index.get(part)
        kind = named[-1] if isinstance(named, list) and named else None
        if kind is not None and kind not in classes:
            problems.append(
                f"{file}: expected {part} of class {classes[0]}, got {kind}; "
                "fix: give a Stable Diffusion base, whose prompts CLIP reads"
            )
    return problems


def _load(module: nn.Module, folder: Path) -> Load:
    tensors = read_weights(folder, *STEMS)
    return Load(module, tensors, str(folder), (), names_of_any_age(module, tensors))
