"""The C library's memory, where that library is glibc: what has been freed goes back to the system.

By itself glibc keeps blocks of up to 32 MB once one of that size has been freed, and what lies between them goes on
being resident: 0.5 to 0.7 GB of a full-size graph's.
"""

import ctypes
from contextlib import suppress

_MMAP_THRESHOLD = -3
"""mallopt's number for the size from which a block is mapped on its own, and unmapped as soon as it is freed. Setting
it keeps glibc from raising it (mallopt(3))."""
_BYTES = 65536


def map_blocks_singly() -> None:
    """From now on, for the whole process."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _BYTES)


def give_back() -> None:
    """Hands what is free to the system."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
