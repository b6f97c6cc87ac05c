"""Folders for what is half written: gone when their work ends, and swept at the next start where their worker was
killed.

A folder's name holds its owner's process id, and the owner holds a lock on the folder as long as it lives. Who gets
that lock later knows that the owner is dead.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:
    # Windows locks no folders, and opens none: there the process id alone tells.
    fcntl = None  # type: ignore[assignment]

_MARK = ".x2i-"
_LABEL_LENGTH = 40


@contextmanager
def staging_folder(parent: Path, label: str) -> Iterator[Path]:
    """An empty folder inside `parent`, hidden and for its owner alone; whatever happens, it is gone afterwards.

    Those that killed workers left in `parent` are removed first. `label` says what is made. Raises OSError where no
    folder can be made.
    """
    sweep(parent)
    folder, lock = _locked_folder(parent, label)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def sweep(parent: Path) -> None:
    """Removes the staging folders inside `parent` whose owners are dead; others' and those in use stay."""
    with suppress(OSError):
        for folder in list(parent.glob(f".*{_MARK}*")):
            if folder.name.rpartition(_MARK)[2].isdigit():
                with suppress(OSError):
                    _remove_if_dead(folder)


def _remove_if_dead(folder: Path) -> None:
    if fcntl is None:
        if not _alive(folder):
            shutil.rmtree(folder, ignore_errors=True)
        return
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if _lock(number, wait=False):
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(number)


def _locked_folder(parent: Path, label: str) -> tuple[Path, int | None]:
    while True:
        suffix = f"{_MARK}{os.getpid()}"
        folder = Path(tempfile.mkdtemp(prefix=f".{label[:_LABEL_LENGTH]}.", suffix=suffix, dir=parent))
        if fcntl is None:
            return folder, None
        with suppress(OSError):
            number = os.open(folder, os.O_RDONLY)
            _lock(number, wait=True)
            # Between its making and its lock, another process may have swept it.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.stat(folder), os.fstat(number)):
                    return folder, number
            os.close(number)


def _lock(number: int, wait: bool) -> bool:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _alive(folder: Path) -> bool:
    import psutil

    return psutil.pid_exists(int(folder.name.rpartition(_MARK)[2]))
