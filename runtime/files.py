"""Files and folders of the caller's: opened or refused in one line, written whole or not at all, and our own
cache folder."""

import os
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from .errors import InputError

_UMASK_LOCK = threading.Lock()


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


def reason(error: BaseException) -> str:
    """What an error says, on one line; its class where it says nothing."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text.splitlines() or [type(error).__name__])[0]


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
