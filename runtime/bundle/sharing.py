"""Files that several bundles of one base have in common, kept once on the disk: hard links, found by their digests."""

import os
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..files.staging import staging_folder
from .reader import Bundle

SMALLEST = 4096
"""Bytes: below it a file takes one block of the disk, linked or not."""


@dataclass(frozen=True, slots=True)
class Shared:
    """One content in several bundles: the first of its files, the others, its bytes, and those that linking freed."""

    path: Path
    others: tuple[Path, ...]
    bytes: int
    freed: int


def share(bundles: Sequence[Bundle]) -> list[Shared]:
    """Makes hard links of the files that bundles have in common; what is linked already stays as it is.

    The bundles must have been opened with their files checked. Each link takes the place of its file in one step: who
    reads the file meanwhile goes on reading the same bytes. Raises InputError where the bundles lie on several disks,
    or on one without hard links.
    """
    devices = {bundle.folder.stat().st_dev for bundle in bundles}
    if len(devices) > 1:
        folders = ", ".join(str(bundle.folder) for bundle in bundles)
        raise InputError(f"share: expected bundles on one disk, got {folders}; copy them to one first")
    places: defaultdict[str, list[Path]] = defaultdict(list)
    for bundle in bundles:
        for name, file in bundle.manifest.files.items():
            if file.bytes >= SMALLEST:
                places[file.sha256].append(bundle.path(name))
    return [_linked(paths) for paths in places.values() if len(paths) > 1]


def shared_bytes(bundle: Bundle) -> int:
    """Bytes of a bundle's files that have another name on the disk, as after `share`."""
    found = 0
    for name in bundle.manifest.files:
        with suppress(OSError):
            stat = bundle.path(name).stat()
            found += stat.st_size if stat.st_nlink > 1 else 0
    return found


def _linked(paths: list[Path]) -> Shared:
    first, *others = paths
    kept, freed = first.stat(), 0
    for path in others:
        stat = path.stat()
        if stat.st_ino != kept.st_ino:
            _replace(path, first)
            freed += stat.st_size if stat.st_nlink == 1 else 0
    return Shared(first, tuple(others), kept.st_size, freed)


def _replace(path: Path, first: Path) -> None:
    with staging_folder(path.parent, "share") as work:
        link = work / path.name
        try:
            os.link(first.resolve(), link)
        except OSError as error:
            raise InputError(
                f"{path}: cannot be linked to {first}: {error.strerror or error}; share bundles on a disk with links"
            ) from error
        link.replace(path)
