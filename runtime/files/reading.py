"""Files that a caller gives: opened, or refused in one line."""

from pathlib import Path
from typing import BinaryIO

from ..errors import InputError, reason


def open_given(path: Path, where: str, kind: str) -> BinaryIO:
    """The file's bytes. `where` begins every message, `kind` says what was expected, such as "a picture file".

    Raises InputError where nothing, a folder, a pipe or a device is, or what may not be read.
    """
    try:
        if not path.exists():
            raise InputError(f"{where}: expected {kind}, got nothing of that name; check the path")
        # A pipe or a device could be read for ever.
        if not path.is_file():
            raise InputError(f"{where}: expected {kind}, got a folder or a device; name the file itself")
        return path.open("rb")
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{where}: expected a readable file, got {reason(error)}; check its permissions") from error
