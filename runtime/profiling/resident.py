"""The memory of another process, looked at from outside, so that it is not disturbed."""

import os
import time
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

from .record import Resident

INTERVAL = 0.005
"""Seconds between two looks."""
MOST = 400
"""Looks that are kept of a process' life."""


class Watch:
    """`with Watch(pid, start) as watch:` looks at a process until the block ends; times are counted from `start`, in
    seconds of `time.perf_counter`."""

    def __init__(self, pid: int, start: float):
        self._path, self._start = Path(f"/proc/{pid}/statm"), start
        self._seen: list[Resident] = []
        self._end = Event()
        self._thread = Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()

    def seen(self) -> tuple[Resident, ...]:
        """At most MOST of the looks: of each stretch the one with the most memory."""
        stretch = -(-len(self._seen) // MOST) or 1
        pieces = (self._seen[begin : begin + stretch] for begin in range(0, len(self._seen), stretch))
        return tuple(max(piece, key=lambda look: look.resident) for piece in pieces)

    def _look(self) -> None:
        page = os.sysconf("SC_PAGE_SIZE") if self._path.parent.is_dir() else 0
        while page and not self._end.wait(INTERVAL):
            # A process that has ended has no memory to look at.
            with suppress(OSError, IndexError):
                _, resident, files = map(int, self._path.read_text("ascii").split()[:3])
                if resident:
                    at = time.perf_counter() - self._start
                    self._seen.append(Resident(at, resident * page, files * page))
