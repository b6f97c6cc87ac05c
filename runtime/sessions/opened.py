"""Sessions by graph name, each opened once, whichever thread asks first."""

from collections.abc import Callable
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
        if beside is not None:
            allocator.map_blocks_singly()

    def __call__(self, graph: str) -> Session:
        with self._lock:
            if graph not in self._sessions:
                self._make_room(graph)
                self._sessions[graph] = self._open_session(graph)
            return self._sessions[graph]

    @property
    def open(self) -> frozenset[str]:
        """The graphs that are open now."""
        return frozenset(self._sessions)

    def _make_room(self, graph: str) -> None:
        if self._beside is None:
            return
        going = [name for name in self._sessions if not self._beside(name, graph)]
        for name in going:
            del self._sessions[name]
        if going:
            allocator.give_back()
