"""The VAE from whichever layout a file has it in, and a VAE of its own that stands in for a base's."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..errors import CheckpointError
from ..readers.loading import Load, load_all_strictly, mismatches
from ..readers.tensors import read_tensors
from ..readers.weights_folder import read_json, read_weights
from .compvis_names import linear_attention, vae_names
from .diffusers_config import STEMS, build_published, names_of_any_age
from .drawable import TINY, Settings, vae_problems
from .tiny_autoencoder import empty_tiny_autoencoder

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

VAE_EXTRAS = ("*loss.*", "model_ema.*", "*.position_ids")
"""What a VAE's file holds of its training."""
_ANY_LAYOUT = "decoder.conv_in.weight"
"""A key of every layout; what stands before it is the prefix of them all."""
SD_VAE: dict[str, Any] = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "scaling_factor": 0.18215,
}
"""The settings of Stable Diffusion's VAE, in diffusers' terms."""


def empty_vae(settings: Settings, source: str) -> "AutoencoderKL | AutoencoderTiny":
    """The VAE that the settings describe, its weights unwritten; CheckpointError for one that cannot be drawn with."""
    if settings.get("_class_name") == TINY:
        return empty_tiny_autoencoder(settings, source)
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    if problems := vae_problems(settings, source):
        raise CheckpointError(*problems)
    vae: AutoencoderKL = build_published(AutoencoderKL, settings, source)
    return vae


def vae_load(
    vae: "AutoencoderKL | AutoencoderTiny", tensors: Mapping[str, Tensor], source: str, absent: str = ""
) -> Load:
    """What fills the VAE from the tensors of a file: diffusers' names of any age, or CompVis', behind any prefix.

    `absent` is the prefix by which the keys are listed as missing where the file holds no VAE.
    """
    found = next((key for key in tensors if key.endswith(_ANY_LAYOUT)), absent + _ANY_LAYOUT)
    prefix = found.removesuffix(_ANY_LAYOUT)
    own = linear_attention({key: value for key, value in tensors.items() if key.startswith(prefix)})
    compvis = any(re.match(rf"{re.escape(prefix)}(en|de)coder\.(down|up|mid)\.", key) for key in own) or absent
    if compvis:
        return Load(vae, own, source, VAE_EXTRAS, vae_names(vae, len(vae.config.block_out_channels), prefix))
    names = names_of_any_age(vae, {key.removeprefix(prefix): value for key, value in own.items()})
    return Load(vae, own, source, VAE_EXTRAS, {key: prefix + name for key, name in names.items()})


def read_vae(path: Path, like: Settings) -> "AutoencoderKL | AutoencoderTiny":
    """A VAE in eval mode and float32, from a diffusers folder or from a file in any layout.

    A file's settings are those of the config.json beside it; without one, those of the VAE whose place it takes
    (`like`) or else of Stable Diffusion's, whichever its tensors fit. Raises CheckpointError with all that is wrong.
    """
    if path.is_dir():
        inner = path / "vae"
        folder = inner if not (path / "config.json").is_file() and inner.is_dir() else path
        settings = read_json(folder / "config.json")
        vae = empty_vae(settings, str(folder / "config.json"))
        load_all_strictly([vae_load(vae, read_weights(folder, *STEMS), str(folder))])
        return vae
    beside = path.parent / "config.json"
    known = read_json(beside) if beside.is_file() else {}
    tried = [known] if known.get("_class_name") in ("AutoencoderKL", TINY) else [like, SD_VAE]
    tensors = read_tensors(path)
    vaes = [empty_vae(settings, str(path)) for settings in tried]
    loads = [vae_load(vae, tensors, str(path)) for vae in vaes]
    chosen = next((number for number, load in enumerate(loads) if not mismatches(load)), 0)
    load_all_strictly([loads[chosen]])
    return vaes[chosen]
