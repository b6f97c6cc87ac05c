"""Builds a module from diffusers' configuration of it, with every setting of the file accounted for."""

import inspect
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..errors import CheckpointError
from ..readers.loading import Load, build_module
from ..readers.weights_folder import find_weights, read_weights

STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
"""How weights files are called in a folder of diffusers' layout, without their suffixes."""
# Attention over a picture alone, as diffusers named it before version 0.16.
_OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def build_published(kind: Any, settings: Mapping[str, Any], source: str) -> Any:
    """The module of class `kind` that diffusers' settings describe; those that the class does not know must be off.

    Raises CheckpointError, in which `source` names the configuration.
    """
    name = settings.get("_class_name", kind.__name__)
    if name != kind.__name__:
        raise CheckpointError(f"{source}: expected {kind.__name__}, got {name}; fix: give the folder as published")
    given = {key: value for key, value in settings.items() if not key.startswith("_")}
    known = inspect.signature(kind.__init__).parameters
    unknown = [key for key, value in given.items() if key not in known and value not in (None, False)]
    if unknown:
        raise CheckpointError(
            f"{source}: expected settings of {kind.__name__}, got unknown {', '.join(unknown)}; "
            "fix: install the version of diffusers that knows them"
        )
    return build_module(lambda: kind(**{key: value for key, value in given.items() if key in known}), source)


def names_of_any_age(module: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The file's name of each of the module's keys: the module's own, or the attention's from before diffusers 0.16."""
    names = {key: _old_name(key) for key in module.state_dict()}
    return {key: old if key not in tensors and old in tensors else key for key, old in names.items()}


def _old_name(key: str) -> str:
    for new, old in _OLD_ATTENTION.items():
        key = re.sub(rf"(attentions\.\d+)\.{re.escape(new)}\.", rf"\1.{old}.", key)
    return key


def missing_parts(folder: Path, files: Iterable[str], weighed: Iterable[str], fix: str) -> list[str]:
    """One line for each of the files that a folder in diffusers' layout lacks, and for each part with a configuration
    that lacks its weights."""
    problems = [f"{folder}: expected {name}, got nothing; {fix}" for name in files if not (folder / name).is_file()]
    return problems + [
        f"{folder}: expected weights in {part}/, got none; fix: download {part}/{STEMS[0]}.safetensors"
        for part in weighed
        if (folder / part / "config.json").is_file() and find_weights(folder / part, *STEMS) is None
    ]


def part_load(module: nn.Module, folder: Path, *ignore: str) -> Load:
    """What fills a module from the weights in the folder of its part."""
    return Load(module, read_weights(folder, *STEMS), str(folder), ignore)
