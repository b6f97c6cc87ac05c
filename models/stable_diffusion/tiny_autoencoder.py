"""A tiny autoencoder (TAESD and its kin): a decoder of a few convolutions in the place of a base's VAE."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from ..errors import CheckpointError
from ..readers.loading import Load, load_all_strictly
from ..readers.tensors import read_tensors
from ..readers.weights_folder import read_json, read_weights
from .diffusers_config import STEMS, build_published
from .drawable import TINY, Settings, vae_problems

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

# A layer's number and what is in it, in a file whose keys have no names.
_OWN_KEY = re.compile(r"(\d+)\.(.+)")


def empty_tiny_autoencoder(settings: Settings, source: str) -> "AutoencoderTiny":
    """The autoencoder that the settings describe, its weights unwritten; CheckpointError for one that cannot be drawn
    with."""
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

    if problems := vae_problems({"_class_name": TINY, **settings}, source):
        raise CheckpointError(*problems)
    # What diffusers derives from the others, it writes beside them.
    given = {key: value for key, value in settings.items() if key != "block_out_channels"}
    tiny: AutoencoderTiny = build_published(AutoencoderTiny, given, source)
    return tiny


def read_tiny_decoder(path: Path) -> "AutoencoderTiny":
    """A tiny autoencoder whose decoder is read, in eval mode and float32; its encoder is not.

    `path` is a folder in diffusers' layout, or the authors' own file of a decoder (`taesd_decoder.safetensors`,
    `.pth`), which is TAESD's. Raises CheckpointError with all that is wrong.
    """
    if path.is_dir():
        inner = path / "vae"
        folder = inner if not (path / "config.json").is_file() and inner.is_dir() else path
        settings, source = read_json(folder / "config.json"), str(folder / "config.json")
        if settings.get("_class_name") != TINY:
            raise CheckpointError(
                f"{source}: expected {TINY}, got {settings.get('_class_name')!r:.60}; fix: give a tiny autoencoder's "
                "folder, or a whole VAE by --part vae="
            )
        tiny, tensors = empty_tiny_autoencoder(settings, source), read_weights(folder, *STEMS)
        names = {key: f"decoder.{key}" for key in tiny.decoder.state_dict()}
        load_all_strictly([Load(tiny.decoder, tensors, str(folder), ("encoder.*",), names)])
        return tiny
    tiny, tensors = empty_tiny_autoencoder({}, str(path)), read_tensors(path)
    load_all_strictly([Load(tiny.decoder, tensors, str(path), (), _authors_names(tensors))])
    return tiny


def _authors_names(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The file's name of each of the decoder's keys: the authors count the limiting of latents as the first layer."""
    matched = {key: found for key in tensors if (found := _OWN_KEY.fullmatch(key)) is not None}
    return {f"layers.{int(found[1]) - 1}.{found[2]}": key for key, found in matched.items()}
