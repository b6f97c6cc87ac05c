"""Writes a bundle under a temporary name and renames it when it is whole."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import DISK_FULL, InputError, reason
from ..files.reading import parse_json
from ..files.staging import staging_folder
from ..files.writing import apply_umask
from . import manifest as manifests
from .manifest import File, Manifest
from .reader import file_record
from .records import decode


@contextmanager
def new_folder(target: str | Path) -> Iterator[Path]:
    """Yields an empty folder beside `target`; on success it becomes `target`, on any error it is removed.

    What a process killed on the way leaves is a hidden folder, which the next one removes. Raises InputError when
    `target` exists, cannot be made, or the disk is full; other errors of the work inside are passed on.
    """
    target = Path(target)
    check_new(target)
    above = [folder for folder in target.absolute().parents if not folder.exists()]
    try:
        target.absolute().parent.mkdir(parents=True, exist_ok=True)
        with staging_folder(target.absolute().parent, target.name) as work:
            yield work
            apply_umask(work)
            work.rename(target)
    except OSError as error:
        if error.errno in DISK_FULL:
            raise _not_written(target, error) from error
        raise
    finally:
        # Only empty ones go: nothing was made in them.
        with suppress(OSError):
            for folder in above:
                folder.rmdir()


def check_new(target: Path) -> None:
    """Raises InputError where a new folder cannot be made, before any work is done; nothing is made yet."""
    try:
        # A link that leads nowhere is there, too.
        if os.path.lexists(target):
            raise InputError(f"{target}: expected a new folder, but it exists; choose another name or remove it first")
        with suppress(FileNotFoundError):
            # Its name may be too long, a file in its way.
            os.stat(target)
        above = next(folder for folder in target.absolute().parents if folder.exists())
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{target}: could not be written: {reason(error)}; choose another name or place") from error
    check_writable(above)


def check_writable(folder: Path) -> None:
    """Raises InputError where nothing can be written into a folder, before any work is done."""
    try:
        with staging_folder(folder, "trial"):
            pass
    except OSError as error:
        raise _not_written(folder, error) from error


def _not_written(target: Path, error: OSError) -> InputError:
    return InputError(f"{target}: could not be written: {reason(error)}; free space or choose a place")


@contextmanager
def new_bundle(target: str | Path) -> Iterator[Path]:
    """A `new_folder` that is published with its manifest alone: without one no folder opens as a bundle."""
    with new_folder(target) as work:
        yield work
        assert (work / manifests.FILE_NAME).is_file(), "a bundle was published without its manifest"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes `manifest.json`, last of all files, and flushes it to the disk.

    Raises InputError for what could not be read again: no number, out of its range, or not fitting the rest.
    """
    try:
        text = json.dumps(manifest.as_json(), indent=1, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        problem = "expected finite numbers, got NaN or infinity"
        raise InputError(f"{manifests.FILE_NAME}: {problem}; check the configuration it comes from") from error
    if problems := decode(Manifest, parse_json(text, manifests.FILE_NAME), manifests.FILE_NAME).problems():
        raise InputError(*problems)
    with (folder / manifests.FILE_NAME).open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def file_records(folder: Path) -> dict[str, File]:
    """Size and digest of every file below the folder, by its name relative to it."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_record(path) for path in paths}
