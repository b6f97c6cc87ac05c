"""Finds one part's weights in a published folder: whole or sharded, safetensors or pickled, in any precision."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError
from .given_files import given_json

if TYPE_CHECKING:
    from torch import Tensor


VARIANTS = ("", "fp16", "bf16", "fp8", "non_ema")
"""What stands in the names of weights files beside a part's main ones, the best first."""


def find_weights(folder: Path, *stems: str) -> Path | None:
    """The best weights file or shard index of `folder`, None where there is none.

    Full precision comes before lower ones (VARIANTS), then safetensors before pickles, then an earlier of the `stems`,
    the files' names without their suffixes, before a later.
    """
    names = [
        name
        for variant in VARIANTS
        for suffix in ("safetensors", "bin")
        for stem in stems
        for name in _names(stem, variant, suffix)
    ]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def read_weights(folder: Path, *stems: str) -> "dict[str, Tensor]":
    """All tensors of the part whose files are called `<stem>[.VARIANT].safetensors|bin`, or of its shards.

    They keep the files' names and dtypes. Raises CheckpointError where there are none, or not all that the index names.
    """
    from .tensors import read_tensors

    found = find_weights(folder, *stems)
    if found is None:
        raise CheckpointError(
            f"{folder}: expected weights such as {stems[0]}.safetensors or {stems[-1]}.bin, got none; "
            "fix: give the folder as it was published"
        )
    return read_shards(found) if found.suffix == ".json" else read_tensors(found)


def read_shards(index: Path) -> "dict[str, Tensor]":
    """The tensors of all shards that a `*.index.json` names, under the files' names and dtypes.

    Raises CheckpointError that lists the shards that are not beside it, or the tensors that are in no shard.
    """
    from .tensors import read_tensors

    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise CheckpointError(f"{index}: expected a weight_map of file names, got none; fix: download the index again")
    shards = sorted(set(weight_map.values()))
    absent = [name for name in shards if Path(name).name != name or not (index.parent / name).is_file()]
    if absent:
        raise CheckpointError(
            f"{index}: expected its shards in the same folder, got no {', '.join(absent)}; fix: download them too"
        )
    tensors = {key: value for name in shards for key, value in read_tensors(index.parent / name).items()}
    lost = [f"  missing {key} (expected in {name})" for key, name in weight_map.items() if key not in tensors]
    if lost:
        raise CheckpointError(f"{index}: {len(lost)} tensors are in no shard; fix: download the shards again", *lost)
    return tensors


def read_json(path: Path, unset: str = "") -> dict[str, Any]:
    """A JSON object from a file; CheckpointError when the file is absent, unreadable or holds something else. `unset`
    is as in `given_json`."""
    content = given_json(path, unset)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(content).__name__}; fix: download it again")
    return content


def _names(stem: str, variant: str, suffix: str) -> tuple[str, ...]:
    if not variant:
        return f"{stem}.{suffix}", f"{stem}.{suffix}.index.json"
    return (
        f"{stem}.{variant}.{suffix}",
        f"{stem}.{variant}.{suffix}.index.json",
        f"{stem}.{suffix}.index.{variant}.json",
    )
