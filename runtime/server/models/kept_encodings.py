"""Encoded prompts, subjects and sounds, kept for the next request that brings the same."""

import hashlib
from collections import OrderedDict
from threading import Lock

from ...sessions.session import Arrays, BoundCall, Outputs, Session, SessionWrapper


class KeptEncodings:
    """What graphs gave for the very inputs they are given again, the latest `most_bytes` of it. A graph gives the same
    for the same, so nothing changes but the time. Safe to use from several threads."""

    def __init__(self, most_bytes: int):
        self._most = most_bytes
        self._kept: OrderedDict[bytes, Outputs] = OrderedDict()
        self._lock = Lock()
        self.bytes = 0
        self.found = 0
        """Calls that were answered from what is kept."""
        self.made = 0
        """Calls that were not."""

    def session(self, graph: str, session: Session) -> Session:
        """The session of a graph, whose calls are looked up first."""
        return _KeptSession(graph, session, self)

    def call(self, graph: str, call: BoundCall, arrays: Arrays) -> Outputs:
        """What the graph gives for these inputs; nobody may write into it."""
        key = _digest(graph, arrays)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                self.found += 1
                return dict(self._kept[key])
        outputs = call(**arrays)
        for array in outputs.values():
            array.flags.writeable = False
        with self._lock:
            self.made += 1
            self._keep(key, outputs)
        return dict(outputs)

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._kept.clear()
            self.bytes = 0

    def _keep(self, key: bytes, outputs: Outputs) -> None:
        size = _size(outputs)
        if key in self._kept or size > self._most:
            return
        self._kept[key] = outputs
        self.bytes += size
        while self.bytes > self._most:
            self.bytes -= _size(self._kept.popitem(last=False)[1])


class _KeptSession(SessionWrapper):
    def __init__(self, graph: str, wrapped: Session, kept: KeptEncodings):
        super().__init__(wrapped)
        self._graph, self._kept = graph, kept

    def around(self, call: BoundCall, bound: Arrays, rest: Arrays) -> Outputs:
        return self._kept.call(self._graph, call, rest) if not bound else call(**rest)


def _size(outputs: Outputs) -> int:
    return sum(array.nbytes for array in outputs.values())


def _digest(graph: str, arrays: Arrays) -> bytes:
    digest = hashlib.sha256(graph.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"\0{name}\0{array.dtype.str}{array.shape}\0".encode())
        digest.update(array.tobytes())
    return digest.digest()
