"""Sessions by graph name, each opened once, and closed again where a limit of memory asks for it."""

import ctypes
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Lock

from .session import Session

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


class SessionCache:
    """Opens a graph on its first use and keeps it; with `beside`, only as long as it may lie in memory beside the graph
    that is opened next. Whoever still holds a closed session may go on using it."""

    def __init__(self, open_session: Callable[[str], Session], beside: Callable[[str, str], bool] | None = None):
        self._open_session, self._beside = open_session, beside
        self._sessions: dict[str, Session] = {}
        self._lock = Lock()
        self._opening: defaultdict[str, Lock] = defaultdict(Lock)
        if beside is not None:
            map_blocks_singly()

    def __call__(self, graph: str) -> Session:
        if self._beside is None:
            return self._kept(graph)
        with self._lock:
            if graph not in self._sessions:
                self._make_room(graph)
                self._sessions[graph] = self._open_session(graph)
            return self._sessions[graph]

    def _kept(self, graph: str) -> Session:
        """Without a limit one graph need not wait for another's opening."""
        with self._lock:
            opening = self._opening[graph]
        with opening:
            if graph not in self._sessions:
                self._sessions[graph] = self._open_session(graph)
            return self._sessions[graph]

    def ahead(self, graphs: Sequence[str], at_once: int) -> None:
        """Opens graphs, so many at a time; after one that cannot be opened no other is begun."""
        if at_once == 1:
            for graph in graphs:
                self(graph)
            return
        with ThreadPoolExecutor(at_once) as pool:
            opening = [pool.submit(self, graph) for graph in graphs]
            try:
                for future in opening:
                    future.result()
            finally:
                pool.shutdown(cancel_futures=True)

    @property
    def open(self) -> frozenset[str]:
        """The graphs that are open now."""
        return frozenset(self._sessions)

    def _make_room(self, graph: str) -> None:
        assert self._beside is not None, "room to make without a limit"
        going = [name for name in self._sessions if not self._beside(name, graph)]
        for name in going:
            del self._sessions[name]
        if going:
            give_back()
