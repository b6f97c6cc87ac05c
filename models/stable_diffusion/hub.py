"""Fetches a published model's folder by its hub name, and only the files this project reads."""

import re
from pathlib import Path

from ..errors import CheckpointError
from .diffusers_folder import lacks_weights

_SMALL = ["model_index.json", "*/config.json", "*/scheduler_config.json", "tokenizer/*"]
# In the order they are wanted: full precision before half, safetensors before pickles.
_WEIGHTS = (".safetensors", ".bin", ".fp16.safetensors", ".fp16.bin")


def is_hub_name(base: str) -> bool:
    """Whether `base` has the form `org/name`. Whether there is such a model is not asked."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", base) is not None


def fetch_stable_diffusion(name: str) -> Path:
    """The local folder of hub model `name` in diffusers' layout; CheckpointError offline or where there is none."""
    folder = _snapshot(name, _SMALL)
    for suffix in _WEIGHTS:
        lacking = lacks_weights(folder)
        if not lacking:
            break
        stems = [f"{part}/*model" for part in lacking]
        patterns = [f"{stem}{tail}" for stem in stems for tail in (suffix, f"-*-of-*{suffix}", f"{suffix}.index*.json")]
        folder = _snapshot(name, _SMALL + patterns)
    return folder


def _snapshot(name: str, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HTTPError

    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (HTTPError, OSError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(
            f"{name}: expected a folder, a file or a hub model, got none of them here, and from the hub: {reason}; "
            "fix: check the name and the connection, or download the model and give its folder"
        ) from error
