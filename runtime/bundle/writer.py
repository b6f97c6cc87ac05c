"""Writes a bundle under a temporary name and renames it when it is whole."""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError
from ..files.writing import apply_umask
from . import manifest as manifests
from .manifest import File, Manifest
from .reader import file_record

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says of a disk, or of a user's share of it, that can take no more."""


@contextmanager
def new_folder(target: str | Path) -> Iterator[Path]:
    """Yields an empty folder beside `target`; on success it becomes `target`, on any error it is removed.

    A process killed on the way leaves a hidden folder. Raises InputError when `target` exists, cannot be made, or the
    disk is full; other errors of the work inside are passed on.
    """
    target = Path(target)
    if target.exists():
        raise InputError(f"{target}: expected a new folder, but it exists; choose another name or remove it first")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    except OSError as error:
        raise _not_written(target, error) from error
    try:
        yield work
        apply_umask(work)
        work.rename(target)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise _not_written(target, error) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def new_bundle(target: str | Path) -> Iterator[Path]:
    """A `new_folder` that is published with its manifest alone: without one no folder opens as a bundle."""
    with new_folder(target) as work:
        yield work
        assert (work / manifests.FILE_NAME).is_file(), "a bundle was published without its manifest"


def _not_written(target: Path, error: OSError) -> InputError:
    return InputError(f"{target}: could not be written: {error.strerror or error}; free space or choose a place")


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes `manifest.json`, last of all files, and flushes it to the disk."""
    problems = manifest.problems()
    assert not problems, problems
    with (folder / manifests.FILE_NAME).open("w", encoding="utf-8") as stream:
        json.dump(manifest.as_json(), stream, indent=1, ensure_ascii=False)
        stream.flush()
        os.fsync(stream.fileno())


def file_records(folder: Path) -> dict[str, File]:
    """Size and digest of every file below the folder, by its name relative to it."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_record(path) for path in paths}
