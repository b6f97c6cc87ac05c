"""Stable Diffusion as torch modules, from whichever layout it was published in."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..clip.published_tokenizer import PublishedTokenizer, read_clip_tokenizer
from ..errors import CheckpointError, read_all
from ..readers.tensors import PICKLED
from ..readers.weights_folder import read_json
from .compvis import read_compvis
from .compvis_config import read_compvis_config
from .diffusers_folder import read_diffusers_folder
from .drawable import Settings, ignored_notes
from .hub import fetch_stable_diffusion, is_hub_name
from .scheduler import read_scheduler
from .vae import SD_VAE, read_vae

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextModel


OPEN_CLIP_PAD = 0
"""The token that OpenCLIP pads prompts with, in Stable Diffusion 2."""


@dataclass(frozen=True, slots=True)
class StableDiffusion:
    """The parts of one checkpoint, all in eval mode and float32.

    `unet`: (latents [B, C, h, w], timesteps [B], context [B, T, W]) -> noise. `vae`: pictures in [-1, 1] to latents,
    which `scaling_factor` multiplies. `text_encoder` and `tokenizer` are None where the checkpoint has none, or they
    were not wanted. `layout` is "diffusers" or "compvis". `scheduler` are the settings of diffusers'
    scheduler_config.json; `_class_name` is among them where the layout names one. `notes` say in one line each what was
    read in another way than it is written. Tiny decoders take the place of the VAE's, whose latents they decode;
    `few_step` says that it was distilled, and is drawn by its scheduler in a few steps.
    """

    unet: "UNet2DConditionModel"
    vae: "AutoencoderKL | AutoencoderTiny"
    text_encoder: "CLIPTextModel | None"
    tokenizer: PublishedTokenizer | None
    scaling_factor: float
    scheduler: dict[str, Any]
    layout: str
    notes: tuple[str, ...] = ()
    decoder: "AutoencoderTiny | None" = None
    preview_decoder: "AutoencoderTiny | None" = None
    few_step: bool = False

    def decoders(self) -> "dict[str, AutoencoderKL | AutoencoderTiny]":
        """What decodes its latents, and where there is another for previews, that one too."""
        found: dict[str, AutoencoderKL | AutoencoderTiny] = {"decoder": self.decoder or self.vae}
        return found | ({} if self.preview_decoder is None else {"preview_decoder": self.preview_decoder})

    @property
    def fills(self) -> bool:
        """Whether the UNet reads a mask and a masked picture beside the latents, and fills what is masked."""
        return bool(self.unet.config.in_channels > self.unet.config.out_channels)


@dataclass(frozen=True, slots=True)
class Replacements:
    """What stands in for parts of a base: `tokenizer`, a folder with CLIP's, which a CompVis file lacks; `vae`, a
    diffusers folder or a file with a VAE. Without `reads_text` the base's text side is left out. `inpainting` says that
    the UNet reads a mask and a masked picture, too."""

    tokenizer: str | Path | None = None
    vae: str | Path | None = None
    reads_text: bool = True
    inpainting: bool = False


def read_stable_diffusion(
    base: str | Path, config: str | Path | None = None, instead: Replacements = Replacements()
) -> StableDiffusion:
    """Stable Diffusion from a diffusers folder, a CompVis `.ckpt`/`.safetensors`, or a hub name `org/name`.

    `config` (the authors' YAML, or JSON) replaces Stable Diffusion v1's configuration for a CompVis file; `instead`
    names parts that stand in for the base's own. Raises CheckpointError with all problems of a stage.
    """
    path = Path(base)
    if path.is_file():
        return _from_compvis(path, config, instead)
    if config is not None:
        raise CheckpointError(
            f"{config}: expected no configuration beside {base}, which carries its own; "
            "got one; fix: leave it out, or give a CompVis file"
        )
    if path.is_dir():
        return _from_folder(path, instead)
    if is_hub_name(str(base)) and path.suffix not in (".safetensors", *PICKLED):
        return _from_folder(fetch_stable_diffusion(str(base)), instead)
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


def _from_folder(folder: Path, instead: Replacements) -> StableDiffusion:
    own = folder / "vae" / "config.json"
    like = read_json(own) if instead.vae is not None and own.is_file() else SD_VAE
    vae, tokenizer = _replacements(instead, like)
    parts = read_diffusers_folder(folder, vae, tokenizer, instead.reads_text, instead.inpainting)
    return StableDiffusion(
        parts.unet,
        parts.vae,
        parts.text_encoder,
        parts.tokenizer,
        float(parts.vae.config.scaling_factor),
        parts.scheduler,
        "diffusers",
        parts.notes,
    )


def _from_compvis(path: Path, config: str | Path | None, instead: Replacements) -> StableDiffusion:
    settings = read_compvis_config(Path(config) if config is not None else None)
    vae, tokenizer = _replacements(instead, settings.vae)
    parts = read_compvis(path, settings, vae, tokenizer, instead.reads_text, instead.inpainting)
    notes = tuple(ignored_notes(parts.vae.config, "vae"))
    if parts.open_clip and tokenizer is not None and tokenizer.pad_id != OPEN_CLIP_PAD:
        notes += (f"{tokenizer.source}: pads with {tokenizer.pad_token}; OpenCLIP's prompts are padded with id 0, !",)
        tokenizer = replace(tokenizer, pad_token="!", pad_id=OPEN_CLIP_PAD)
    return StableDiffusion(
        parts.unet,
        parts.vae,
        parts.text_encoder,
        tokenizer,
        float(parts.vae.config.scaling_factor),
        parts.scheduler,
        "compvis",
        notes,
    )


def _replacements(
    instead: Replacements, like: Settings
) -> "tuple[AutoencoderKL | AutoencoderTiny | None, PublishedTokenizer | None]":
    """The VAE and the tokenizer that stand in for the base's; `like` are the settings of the base's VAE."""
    vae, tokenizer = instead.vae, instead.tokenizer if instead.reads_text else None
    read: tuple[AutoencoderKL | AutoencoderTiny | None, PublishedTokenizer | None] = read_all(
        lambda: None if vae is None else read_vae(Path(vae), like),
        lambda: None if tokenizer is None else read_clip_tokenizer(tokenizer),
    )
    return read
