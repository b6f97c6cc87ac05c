"""Where this user's machine keeps what can be made again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Our folder in the user's: in XDG_CACHE_HOME, or ~/.cache. A user without a home has one that cannot be made."""
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given) / "x2i"
    try:
        return Path.home() / ".cache" / "x2i"
    except RuntimeError:
        return Path(os.devnull) / "x2i"
