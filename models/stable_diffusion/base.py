"""Stable Diffusion v1 as torch modules, from whichever layout it was published in."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..clip.tokenizer import clip_pad_token, clip_tokenizer_json
from ..errors import CheckpointError
from ..readers.tensors import PICKLED
from .compvis import read_compvis
from .compvis_config import read_compvis_config
from .diffusers_folder import read_diffusers_folder
from .hub import fetch_stable_diffusion, is_hub_name
from .scheduler import read_scheduler

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextModel


@dataclass(frozen=True, slots=True)
class StableDiffusion:
    """The parts of one checkpoint, all in eval mode and float32.

    `unet`: (latents [B, C, h, w], timesteps [B], context [B, T, W]) -> noise. `vae`: pictures in [-1, 1] to latents,
    which `scaling_factor` multiplies. `tokenizer_json` is the `tokenizers` serialization without truncation and
    padding; `pad_token` is what its prompts are padded with. `layout` is "diffusers" or "compvis". `scheduler` are the
    settings of diffusers' scheduler_config.json; `_class_name` is among them where the layout names one.
    """

    unet: "UNet2DConditionModel"
    vae: "AutoencoderKL"
    text_encoder: "CLIPTextModel | None"
    tokenizer_json: str | None
    pad_token: str | None
    scaling_factor: float
    scheduler: dict[str, Any]
    layout: str


def read_stable_diffusion(
    base: str | Path, config: str | Path | None = None, tokenizer: str | Path | None = None
) -> StableDiffusion:
    """Stable Diffusion v1 from a diffusers folder, a CompVis `.ckpt`/`.safetensors`, or a hub name `org/name`.

    `config` (the authors' YAML, or JSON) replaces Stable Diffusion v1's configuration for a CompVis file; `tokenizer`
    is a folder with CLIP's tokenizer, which such a file lacks. Raises CheckpointError with all problems of a stage.
    """
    path = Path(base)
    if path.is_file():
        return _from_compvis(path, config, tokenizer)
    if config is not None:
        raise CheckpointError(
            f"{config}: expected no configuration beside {base}, which carries its own; "
            "got one; fix: leave it out, or give a CompVis file"
        )
    if path.is_dir():
        return _from_folder(path, tokenizer)
    if is_hub_name(str(base)) and path.suffix not in (".safetensors", *PICKLED):
        return _from_folder(fetch_stable_diffusion(str(base)), tokenizer)
    raise CheckpointError(
        f"{base}: expected a diffusers folder, a CompVis .ckpt or .safetensors, or a hub name org/name, got nothing; "
        "fix: check the path"
    )


def stated_scheduler(base: str | Path, config: str | Path | None = None) -> tuple[str, dict[str, Any]] | None:
    """The layout and the scheduler's settings of a base by its configuration alone; weights are not read.

    Returns None for a hub name, whose files may not be here yet, and for a path without a base. Raises CheckpointError
    for a configuration that cannot be read or is of another kind, as `read_stable_diffusion` does.
    """
    path = Path(base)
    if path.is_file():
        return "compvis", read_compvis_config(Path(config) if config is not None else None).scheduler
    if (path / "scheduler" / "scheduler_config.json").is_file():
        return "diffusers", read_scheduler(path)
    return None


def _from_folder(folder: Path, tokenizer: str | Path | None) -> StableDiffusion:
    parts = read_diffusers_folder(folder)
    return StableDiffusion(
        parts.unet,
        parts.vae,
        parts.text_encoder,
        clip_tokenizer_json(tokenizer) if tokenizer is not None else parts.tokenizer_json,
        clip_pad_token(Path(tokenizer)) if tokenizer is not None else parts.pad_token,
        float(parts.vae.config.scaling_factor),
        parts.scheduler,
        "diffusers",
    )


def _from_compvis(path: Path, config: str | Path | None, tokenizer: str | Path | None) -> StableDiffusion:
    settings = read_compvis_config(Path(config) if config is not None else None)
    parts = read_compvis(path, settings)
    return StableDiffusion(
        parts.unet,
        parts.vae,
        parts.text_encoder,
        clip_tokenizer_json(tokenizer) if tokenizer is not None else None,
        clip_pad_token(Path(tokenizer)) if tokenizer is not None else None,
        float(settings.vae["scaling_factor"]),
        parts.scheduler,
        "compvis",
    )
