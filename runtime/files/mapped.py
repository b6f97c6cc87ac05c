"""Files mapped into memory, whose pages the system may drop and read again."""

import ctypes
import mmap
from pathlib import Path
from threading import Lock
from weakref import WeakSet

import numpy as np


class MappedFile(mmap.mmap):
    """A file's bytes for reading, which count for no limit of the process's own data; it belongs to the file `owner`.

    Made by `map_file`.
    """

    owner: Path

    def array(self) -> np.ndarray:
        """All bytes, uint8; the array, and whatever is made of it, holds the mapping.

        It says that it could be written to, which it cannot: OpenVINO takes no others.
        """
        content = (ctypes.c_uint8 * len(self)).from_address(np.frombuffer(self, np.uint8).ctypes.data)
        content.mapping = self  # type: ignore[attr-defined]
        return np.ctypeslib.as_array(content)


_LIVING: WeakSet[MappedFile] = WeakSet()
_LOCK = Lock()


def map_file(path: Path, owner: Path | None = None) -> MappedFile:
    """A file in memory, which belongs to itself where no `owner` is given.

    Raises OSError where the file cannot be read, and ValueError where it is empty.
    """
    with path.open("rb") as stream:
        mapped = MappedFile(stream.fileno(), 0, access=mmap.ACCESS_READ)
    mapped.owner = owner or path
    with _LOCK:
        _LIVING.add(mapped)
    return mapped


def release_pages(owner: Path) -> None:
    """Lets the system have what was read of the files that belong to `owner`, wherever they are mapped; what is needed
    again is read again."""
    if not hasattr(mmap, "MADV_DONTNEED"):
        return
    with _LOCK:
        living = list(_LIVING)
    for mapped in living:
        if mapped.owner == owner:
            mapped.madvise(mmap.MADV_DONTNEED)
