"""Files that a command writes: refused before the work where they could not be written, and written whole or not at
all."""

import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ..errors import InputError

_UMASK_LOCK = threading.Lock()


def check_folder_of(path: Path) -> None:
    """Raises InputError where a file could not be written, before any work is done."""
    if path.is_dir():
        raise InputError(f"{path}: expected a file name, got a folder")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; create it first")
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"{path}: could not be written: {error.strerror or error}; choose another folder") from error


def save_whole(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Calls `write(stream)` on a temporary file beside `path` and renames it, so that no half file stays."""
    folder = path.absolute().parent
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=folder)
    except OSError as error:
        raise InputError(f"{path}: could not be written: {error.strerror or error}") from error
    try:
        with os.fdopen(handle, "wb") as stream:
            write(stream)
        apply_umask(Path(temporary))
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: could not be written: {error.strerror or error}") from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def apply_umask(path: Path) -> None:
    """Gives a file or folder that was made for its owner alone the mode that a plain one gets: 0o666 or 0o777 less the
    process's umask."""
    with _UMASK_LOCK:
        # There is no call that reads the umask alone.
        umask = os.umask(0o077)
        os.umask(umask)
    path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
