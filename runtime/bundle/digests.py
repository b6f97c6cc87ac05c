"""SHA-256 of files, remembered from process to process: a file that nobody has touched since is not read again.

What is remembered is believed while the file's device, inode, size, time of modification and time of change are those
that it had when it was read. Who alters a file and restores the rest cannot set back the time of change.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from ..files.cache import cache_folder, remember, remembered

MAX_FILES = 2000
"""Files remembered; beyond it go those that are gone, then those that were read the longest ago."""
RACY_NANOSECONDS = 2_000_000_000
"""Nanoseconds. What changed so shortly before it was read may change again under the same time, for the clocks of file
systems tick every 2 s at the slowest. The rule is git's, which calls such a file racily clean."""
_CHANGE_TIME = os.name != "nt"
"""Windows tells the time of creation in its place: nothing is remembered there."""


class _Identity(NamedTuple):
    device: int
    inode: int
    size: int
    modified: int
    changed: int


def sha256_of(paths: Sequence[Path], afresh: bool = False) -> list[str]:
    """The digests of files, hexadecimal: those remembered, or of every file read again with `afresh`.

    Raises OSError for a file that cannot be read.
    """
    return _remembered(cache_folder() / "digests.json")(paths, afresh)


@cache
def _remembered(file: Path) -> "Digests":
    return Digests(file)


class Digests:
    """The digests that one file remembers; safe to call from several threads, and beside other processes.

    Where that file is damaged or cannot be written, nothing is remembered and everything is read.
    """

    def __init__(self, file: Path, most: int = MAX_FILES):
        self._file, self._most, self._lock = file, most, Lock()
        self._known = _read(file)

    def __call__(self, paths: Sequence[Path], afresh: bool = False) -> list[str]:
        """See `sha256_of`."""
        places = [str(path.resolve()) for path in paths]
        known = [None if afresh else self._believed(place) for place in places]
        missing = [place for place, digest in zip(places, known, strict=True) if digest is None]
        if not missing:
            return [digest for digest in known if digest is not None]
        with ThreadPoolExecutor() as pool:
            hashed = dict(zip(missing, pool.map(_hashed, missing), strict=True))
        with self._lock:
            self._keep(hashed)
        return [hashed[place][1] if digest is None else digest for place, digest in zip(places, known, strict=True)]

    def _believed(self, place: str) -> str | None:
        entry = self._known.get(place)
        return entry[1] if entry is not None and entry[0] == _identity(os.stat(place)) else None

    def _keep(self, hashed: dict[str, tuple[_Identity | None, str]]) -> None:
        """Adds what was read to what the file remembers by now, and to what this process does."""
        for known in (self._known, merged := _read(self._file)):
            for place, (identity, digest) in hashed.items():
                known.pop(place, None)
                if identity is not None:
                    known[place] = identity, digest
        if len(merged) > self._most:
            there = [place for place in merged if os.path.exists(place)][-self._most :]
            merged = {place: merged[place] for place in there}
        remember(self._file, merged)


def _hashed(place: str) -> tuple[_Identity | None, str]:
    """What the file was while it was read, None where it may have been several things, and its digest."""
    start = time.time_ns()
    with open(place, "rb") as stream:
        before = _identity(os.fstat(stream.fileno()))
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        after = _identity(os.fstat(stream.fileno()))
    settled = before == after and max(before.modified, before.changed) + RACY_NANOSECONDS < start
    return before if settled and _CHANGE_TIME else None, digest


def _identity(stat: os.stat_result) -> _Identity:
    return _Identity(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def _read(file: Path) -> dict[str, tuple[_Identity, str]]:
    with contextlib.suppress(TypeError, AttributeError, ValueError):
        return {place: (_Identity(*identity), str(digest)) for place, (identity, digest) in remembered(file).items()}
    return {}
