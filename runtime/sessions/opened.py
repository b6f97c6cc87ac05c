"""Sessions by graph name, each opened once, whichever thread asks first."""

from collections.abc import Callable
from threading import Lock

from .session import Session


class OpenedOnce:
    """Opens a graph on its first use and keeps it."""

    def __init__(self, open_session: Callable[[str], Session]):
        self._open_session = open_session
        self._sessions: dict[str, Session] = {}
        self._lock = Lock()

    def __call__(self, graph: str) -> Session:
        with self._lock:
            if graph not in self._sessions:
                self._sessions[graph] = self._open_session(graph)
            return self._sessions[graph]
