"""Sessions by graph name, each opened once, whichever thread asks first."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

from . import allocator
from .session import Session


class OpenedOnce:
    """Opens a graph on its first use and keeps it; with `beside`, only as long as it may lie in memory beside the graph
    that is opened next. Whoever still holds a closed session may go on using it."""

    def __init__(self, open_session: Callable[[str], Session], beside: Callable[[str, str], bool] | None = None):
        self._open_session, self._beside = open_session, beside
        self._sessions: dict[str, Session] = {}
        self._lock = Lock()
        self._opening: defaultdict[str, Lock] = defaultdict(Lock)
        if beside is not None:
            allocator.map_blocks_singly()

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
            allocator.give_back()
