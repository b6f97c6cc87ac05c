"""An ensemble of experts from folders in diffusers' layout."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ..clip.published_tokenizer import read_clip_tokenizer
from ..clip.text_encoder import empty_text_encoder, text_encoder_load
from ..clip.vision import read_clip_vision_projection
from ..errors import CheckpointError, read_all, refuse
from ..readers.loading import Load, build_module, load_all_strictly
from ..readers.tensors import read_tensors
from ..readers.weights_folder import find_weights, read_json, read_weights
from ..stable_diffusion.diffusers_config import STEMS, build_published, missing_parts, part_load
from ..stable_diffusion.vae import SD_VAE, read_vae
from ..text_encoders.prompt_encoder import PromptEncoder, encoder_problems
from ..text_encoders.t5 import read_t5, t5_tokenizer_json
from .ensemble import Ensemble, SecondText
from .fits import ensemble_problems, expert_problems

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPVisionModelWithProjection

PROJECTIONS = "context_projections.safetensors"
KEYS = {"clip-text": "clip_text", "t5": "t5", "clip-image": "clip_image"}
"""What the file of projections calls each condition."""
USUAL_WINDOW, MOST_WINDOW = 77, 512
"""Tokens of T5 where its tokenizer states no limit, and at most."""


@dataclass(frozen=True, slots=True)
class EnsembleFiles:
    """Where the parts are: of `base` the folders text_encoder, tokenizer and, unless they are named, text_encoder_2
    with tokenizer_2 (T5), image_encoder, vae and scheduler, and context_projections.safetensors."""

    base: Path
    experts: Mapping[str, Path]
    t5: Path | None = None
    vision: Path | None = None
    projections: Path | None = None
    scheduler: Path | None = None
    vae: Path | None = None


def read_ensemble(files: EnsembleFiles) -> Ensemble:
    """Raises CheckpointError with every absent file, unfit setting or key that does not fit."""
    base = files.base
    folders = {name: _unet_folder(path) for name, path in files.experts.items()}
    scheduler = base if files.scheduler is None else files.scheduler
    _require(base, folders, scheduler)
    settings: dict[str, dict[str, Any]] = dict(
        zip(folders, read_all(*(partial(read_json, each / "config.json") for each in folders.values())), strict=True)
    )
    sources = {name: str(folder / "config.json") for name, folder in folders.items()}
    refuse(expert_problems(settings, sources))
    text, tokenizer, t5, vision, projections, stated, vae, *unets = read_all(
        partial(_read_text, base / "text_encoder"),
        partial(read_clip_tokenizer, base / "tokenizer"),
        partial(_read_t5, files),
        partial(_read_vision, files),
        partial(_read_projections, files),
        # DPM-Solver's lambda_min_clipped has no bound unless it is set, which diffusers writes so.
        partial(read_json, _scheduler_file(scheduler), "-Infinity"),
        partial(_read_vae, files),
        *(partial(_read_unet, folders[name], settings[name]) for name in folders),
    )
    read = Ensemble(dict(zip(folders, unets, strict=True)), text, tokenizer, stated, projections, t5, vision, vae)
    made = replace(
        read,
        projections={name: layer for name, layer in projections.items() if name in read.widths},
        notes=tuple(
            f"{PROJECTIONS}: {name} is left out, as no encoder of it is given"
            for name in projections
            if name not in read.widths
        ),
    )
    refuse(ensemble_problems(made, str(base)))
    return made


def _require(base: Path, folders: Mapping[str, Path], scheduler: Path) -> None:
    fix = "fix: give the folder of the encoders, and each expert as --part expert:NAME=FOLDER"
    if not base.is_dir():
        raise CheckpointError(f"{base}: expected a folder, got none there; {fix}")
    problems = missing_parts(base, ["text_encoder/config.json"], ["text_encoder"], fix)
    for name, folder in folders.items():
        if not (folder / "config.json").is_file():
            problems.append(f"expert {name}: expected a UNet's config.json in {folder}, got none; {fix}")
        elif find_weights(folder, *STEMS) is None:
            problems.append(f"expert {name}: expected weights in {folder}, got none; download {STEMS[0]}.safetensors")
    if not _scheduler_file(scheduler).is_file():
        problems.append(
            f"{scheduler}: expected scheduler/scheduler_config.json, got nothing; fix: add --part scheduler=FOLDER "
            "with the settings of the scheduler that the experts were trained for"
        )
    refuse(problems)


def _scheduler_file(folder: Path) -> Path:
    """In a folder of its own, or in a whole base."""
    own = folder / "scheduler_config.json"
    return own if own.is_file() else folder / "scheduler" / own.name


def _unet_folder(path: Path) -> Path:
    """An expert's own folder, or the UNet's in a whole base."""
    return path / "unet" if (path / "unet" / "config.json").is_file() else path


def _read_unet(folder: Path, settings: Mapping[str, Any]) -> "UNet2DConditionModel":
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    unet: UNet2DConditionModel = build_published(UNet2DConditionModel, settings, str(folder / "config.json"))
    load_all_strictly([part_load(unet, folder)])
    return unet


def _read_text(folder: Path) -> "CLIPTextModel":
    model = empty_text_encoder(read_json(folder / "config.json"), str(folder / "config.json"))
    load_all_strictly([text_encoder_load(model, read_weights(folder, *STEMS), str(folder))])
    return model


def _read_t5(files: EnsembleFiles) -> SecondText | None:
    own = files.base / "text_encoder_2"
    folder = files.t5 or (own if own.is_dir() else None)
    if folder is None:
        return None
    second = files.base / "tokenizer_2"
    words = second if files.t5 is None and second.is_dir() else folder
    model, tokenizer_json, window = read_all(
        partial(read_t5, folder), partial(t5_tokenizer_json, words), partial(_window_of, words)
    )
    encoder = PromptEncoder.of(model, tokenizer_json, positions=None)
    refuse(encoder_problems(encoder, str(folder)))
    return SecondText(encoder, window)


def _window_of(folder: Path) -> int:
    """Tokens of a prompt that T5 reads: what its tokenizer's configuration states, or 77. Raises CheckpointError."""
    file = folder / "tokenizer_config.json"
    stated = read_json(file).get("model_max_length") if file.is_file() else None
    if stated is None or (isinstance(stated, int | float) and stated > MOST_WINDOW):
        return USUAL_WINDOW
    if not isinstance(stated, int) or isinstance(stated, bool) or stated < 2:
        raise CheckpointError(
            f"{file}: expected model_max_length as 2 to {MOST_WINDOW} tokens, got {stated!r}; fix: give the original "
            "file"
        )
    return stated


def _read_vision(files: EnsembleFiles) -> "CLIPVisionModelWithProjection | None":
    own = files.base / "image_encoder"
    folder = files.vision or (own if own.is_dir() else None)
    return None if folder is None else read_clip_vision_projection(folder)


def _read_projections(files: EnsembleFiles) -> dict[str, nn.Linear]:
    """The projections by their conditions; none where there is no such file."""
    own = files.base / PROJECTIONS
    path = files.projections or (own if own.is_file() else None)
    if path is None:
        return {}
    tensors = read_tensors(path)
    layers = {}
    for name, key in KEYS.items():
        weight = tensors.get(f"{key}.weight")
        if weight is not None and weight.ndim == 2:
            rows, columns = weight.shape
            layers[name] = build_module(partial(nn.Linear, columns, rows), str(path))
    module = nn.ModuleDict({KEYS[name]: layer for name, layer in layers.items()})
    load_all_strictly([Load(module, tensors, str(path))])
    return layers


def _read_vae(files: EnsembleFiles) -> "AutoencoderKL | AutoencoderTiny | None":
    own = files.base / "vae"
    path = files.vae or (own if own.is_dir() else None)
    return None if path is None else read_vae(path, SD_VAE)
