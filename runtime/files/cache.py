"""What is remembered from process to process, in our folder in the user's cache: JSON files, and one that is damaged is
forgotten."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import InputError
from .reading import read_json_file
from .writing import save_whole


def cache_folder() -> Path:
    """Our folder in the user's cache: $XDG_CACHE_HOME/x2i or ~/.cache/x2i on Linux, what is usual elsewhere.

    Nothing is made. A user without a home gets a folder that cannot be made, and whose callers then keep nothing.
    """
    from platformdirs import user_cache_path

    # Some releases of platformdirs refuse where there is no home, others give a relative path.
    with suppress(RuntimeError):
        if (folder := user_cache_path("x2i", appauthor=False)).is_absolute():
            return folder
    return Path(os.devnull) / "x2i"


def remembered(file: Path) -> Any:
    """What a file of the cache holds; None where it is missing, no regular file or damaged."""
    with suppress(InputError):
        return read_json_file(file, str(file), "a cache")
    return None


def remember(file: Path, data: Any) -> None:
    """Writes a file of the cache, whole or not at all; where that cannot be, nothing is remembered."""
    text = json.dumps(data, allow_nan=False)
    with suppress(OSError, InputError):
        file.parent.mkdir(parents=True, exist_ok=True)
        save_whole(file, lambda stream: stream.write(text.encode()))
