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
_MMAP_THRESHOLD_BYTES = 65536


def map_blocks_singly() -> None:
    """Tells glibc to map every larger block on its own, so that a closed graph's memory goes back to the system.

    This holds until the process ends. It does nothing where the C library is another one.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)


def trim_heap() -> None:
    """Hands free memory of the heap to the system; does nothing where the C library is not glibc."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class SessionCache:
    """Opens a graph on its first use and keeps its session; safe to call from several threads.

    With `co_resident(graph, other)` it keeps a session only as long as that graph may lie in memory beside the graph
    that is opened next. Whoever still holds a closed session may go on using it, and holds its memory: see `closed_by`.
    """

    def __init__(self, open_session: Callable[[str], Session], co_resident: Callable[[str, str], bool] | None = None):
        self._open_session, self._co_resident = open_session, co_resident
        self._sessions: dict[str, Session] = {}
        self._lock = Lock()
        self._opening: defaultdict[str, Lock] = defaultdict(Lock)
        if co_resident is not None:
            map_blocks_singly()

    def __call__(self, graph: str) -> Session:
        """The session of a graph. Raises InputError where it cannot be opened."""
        if self._co_resident is None:
            return self._kept(graph)
        with self._lock:
            if graph not in self._sessions:
                self._close(self.closed_by(graph))
                self._sessions[graph] = self._open_session(graph)
            return self._sessions[graph]

    def _kept(self, graph: str) -> Session:
        """Without a limit one graph need not wait for another's opening."""
        with self._lock:
            opening = self._opening[graph]
        with opening:
            # Another thread may close it at any time.
            session = self._sessions.get(graph)
            if session is None:
                session = self._sessions[graph] = self._open_session(graph)
            return session

    def preopen(self, graphs: Sequence[str], at_once: int) -> None:
        """Opens graphs, `at_once` at a time; after one that cannot be opened no other is begun."""
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

    def closed_by(self, graph: str) -> frozenset[str]:
        """The open graphs that opening `graph` would close; none where it is open, or without a limit.

        Whoever holds one of their sessions, or a call bound to it, must drop it first. Else both lie in memory at once,
        and the limit is passed.
        """
        if self._co_resident is None or graph in self._sessions:
            return frozenset()
        return frozenset(name for name in self._sessions if not self._co_resident(name, graph))

    def close(self) -> None:
        """Drops every session; what is called afterwards is opened anew."""
        with self._lock:
            self._close(self.open)

    def _close(self, graphs: frozenset[str]) -> None:
        for name in graphs:
            del self._sessions[name]
        if graphs:
            trim_heap()
