"""Our folder in the user's cache."""

import os
from contextlib import suppress
from pathlib import Path


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
