"""Reads the named tensors of a checkpoint file, whatever its format, and refuses everything else in it."""

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from .pickles import unpickle

MOST_UNPACKED_BYTES = 500_000_000
"""Of a `.safetensors.gz`, which is read into memory; large weights are published unpacked."""
PICKLED = (".ckpt", ".pt", ".pth", ".bin")


def read_tensors(path: str | Path, sections: Iterable[str] = ()) -> dict[str, Tensor]:
    """The tensors of one `.safetensors[.gz]` file or one pickled state dict, under the file's own names and dtypes.

    A wrapper `{"state_dict": ...}` is taken off. `sections` are dicts that the file may hold beside its tensors; theirs
    come out as `section.name`. Tensors map the file where its format allows, so a large checkpoint costs memory only as
    it is used. Raises CheckpointError: no such file, not readable, not tensors only.
    """
    path = Path(path)
    content = _read(path)
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path}: expected a dict of named tensors, got {_describe(content)}; fix: save a state dict"
        )
    for section in sections:
        if isinstance(content.get(section), dict):
            inside = {f"{section}.{name}": value for name, value in content[section].items()}
            content = {name: value for name, value in content.items() if name != section} | inside
    strange = [f"{name!r} is {_describe(value)}" for name, value in content.items() if not _plain(name, value)]
    if strange:
        raise CheckpointError(f"{path}: expected named tensors only; fix: save the bare state dict", *strange)
    if not content:
        raise CheckpointError(f"{path}: expected named tensors, got none; fix: give the file that holds the weights")
    return content


def read_dict(path: str | Path) -> dict[str, Any]:
    """What a `.safetensors` file or a pickled dict holds, whatever is in it, by its names.

    Raises CheckpointError: no such file, not readable, no dict of names.
    """
    content = _read(Path(path))
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise CheckpointError(f"{path}: expected named values, got {_describe(content)}; fix: save a dict of them")
    return content


def read_section(path: str | Path, name: str, fix: str) -> dict[str, Tensor]:
    """The named tensors under one key of a training checkpoint, as their file has them; nothing else is looked at.

    Raises CheckpointError where the file cannot be read or has no such section of tensors alone; `fix` says which file
    to give then.
    """
    path = Path(path)
    content = _read(path)
    section = content.get(name) if isinstance(content, dict) else None
    if not isinstance(section, dict) or not section:
        got = ", ".join(map(str, list(content)[:8])) if isinstance(content, dict) and content else _describe(content)
        raise CheckpointError(f"{path}: expected named tensors under {name!r}, got {got}; fix: {fix}")
    strange = [f"{name}.{key} is {_describe(value)}" for key, value in section.items() if not _plain(key, value)]
    if strange:
        raise CheckpointError(f"{path}: expected tensors only under {name!r}; fix: {fix}", *strange)
    return section


def read_tensor(path: str | Path) -> Tensor:
    """The only tensor of a `.safetensors`, `.npy` or pickled file, bare or a dict of one, in the file's dtype.

    Raises CheckpointError: no such file, not readable, not one tensor.
    """
    path = Path(path)
    content = _read(path)
    if isinstance(content, dict) and len(content) == 1:
        content = next(iter(content.values()))
    if not _plain("", content):
        raise CheckpointError(f"{path}: expected one tensor, got {_describe(content)}; fix: save the tensor alone")
    return content


def read_metadata(path: str | Path) -> dict[str, str]:
    """The texts that a `.safetensors` file states of itself by their names, such as `modelspec.prediction_type`.

    It is empty for a file that states none, and for every other format. Raises CheckpointError for a damaged file.
    """
    from safetensors import SafetensorError, safe_open

    if Path(path).suffix != ".safetensors":
        return {}
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise _damaged_safetensors(Path(path), error) from error


def _read(path: Path) -> Any:
    if not path.is_file():
        got = "a folder" if path.is_dir() else "nothing"
        raise CheckpointError(f"{path}: expected a file of tensors, got {got}; fix: give the path of the file itself")
    if path.suffix == ".safetensors" or path.name.endswith(".safetensors.gz"):
        return _read_safetensors(path)
    if path.suffix in PICKLED:
        return unpickle(path)
    if path.suffix == ".npy":
        return _read_npy(path)
    raise CheckpointError(
        f"{path}: expected .safetensors or {', '.join(PICKLED)}, got {path.suffix or 'no suffix'!r}; "
        "fix: give a file in one of these formats"
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load, load_file

    try:
        return load_file(path) if path.suffix != ".gz" else load(_unpacked(path))
    except (SafetensorError, OSError, EOFError, zlib.error) as error:
        raise _damaged_safetensors(path, error) from error


def _damaged_safetensors(path: Path, got: object) -> CheckpointError:
    return CheckpointError(
        f"{path} cannot be read: expected a whole safetensors file, got {got}; fix: download it again"
    )


def _unpacked(path: Path) -> bytes:
    """What a packed file holds; a few bytes can stand for more than any memory."""
    with gzip.open(path) as stream:
        content = stream.read(MOST_UNPACKED_BYTES + 1)
    if len(content) > MOST_UNPACKED_BYTES:
        raise CheckpointError(
            f"{path}: expected at most {MOST_UNPACKED_BYTES / 1e6:.0f} MB of packed weights, got more; fix: unpack the "
            "file yourself"
        )
    return content


def _read_npy(path: Path) -> Tensor:
    import numpy as np

    try:
        return torch.from_numpy(np.load(path, allow_pickle=False))
    except (ValueError, OSError, EOFError, TypeError) as error:
        raise CheckpointError(
            f"{path} cannot be read: expected an array of numbers, got {error}; fix: save it with numpy.save"
        ) from error


def _plain(name: Any, value: Any) -> bool:
    return (
        isinstance(name, str)
        and isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    )


def _describe(value: Any) -> str:
    if isinstance(value, dict):
        return f"a dict of {len(value)} entries"
    if isinstance(value, Tensor):
        return f"a {value.layout} tensor on {value.device}".replace("torch.", "")
    return f"a value of type {type(value).__name__}"


def common_size(tensors: Mapping[str, Tensor], pattern: str, axis: int) -> int:
    """The size along `axis` that most of the matching tensors have, so that one wrong tensor is reported, not believed.

    It is 0 where no name matches the whole `pattern`, a regular expression.
    """
    sizes = Counter(
        value.shape[axis] for key, value in tensors.items() if re.fullmatch(pattern, key) and value.ndim > axis
    )
    return sizes.most_common(1)[0][0] if sizes else 0


def describe_checkpoint(tensors: Mapping[str, Tensor], besides: str = "") -> str:
    """What a file with these tensors' names probably is, in words for a message.

    `besides` is the prefix of the names that it was searched for in vain, which says nothing about it.
    """
    kinds = {
        "blocks.": "GlueNet's text translator (Translator_noln)",
        "in_blocks.": "GlueNet's sound translator (Translator_w_head)",
        "audio.": "AudioCLIP",
        "model.diffusion_model.": "a Stable Diffusion checkpoint",
        "roberta.": "an XLM-R checkpoint",
        "encoder.layer.": "an XLM-R checkpoint",
    }
    for prefix, kind in kinds.items():
        if prefix != besides and any(key.startswith(prefix) for key in tensors):
            return kind
    return "keys such as " + ", ".join(list(tensors)[:3])
