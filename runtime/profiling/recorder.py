"""When each graph was opened and called, noted from outside: the loop cannot tell that it is watched."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..output import Span
from ..sessions.session import Arrays, BoundCall, Outputs, Session, SessionWrapper, UnboundSession


@dataclass(frozen=True, slots=True)
class CapturedCall:
    """A graph as it was called: inputs bound before, those of the call itself, and how often with such shapes.
    `output_bytes` are those of its outputs."""

    graph: str
    bound: Arrays
    rest: Arrays
    output_bytes: int
    count: int = 1

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All inputs by name."""
        return self.bound | self.rest

    def replay(self, session: Session) -> Callable[[], Outputs]:
        """The same call again, bound as it was."""
        call = session.bind(**self.bound) if self.bound else session
        return partial(call, **self.rest)


class Recorder:
    """`opener(open_session)` gives sessions that note their opening in `opened` and each call in `calls`, as spans
    named by graph. While `captured` is a list, each call's inputs are kept in it as well."""

    def __init__(self) -> None:
        self.opened: list[Span] = []
        self.calls: list[Span] = []
        self.captured: list[CapturedCall] | None = None

    def opener(self, open_session: Callable[[str], Session]) -> Callable[[str], Session]:
        """The same `open_session`, whose sessions are recorded."""

        def opened(graph: str) -> Session:
            start = time.perf_counter()
            session = open_session(graph)
            self.opened.append(Span(graph, start, time.perf_counter()))
            return RecordedSession(graph, session, self)

        return opened


class RecordedSession(SessionWrapper):
    """A Session that tells a recorder of its calls."""

    def __init__(self, graph: str, session: Session, recorder: Recorder):
        super().__init__(session)
        self._graph, self._recorder = graph, recorder

    def around(self, call: BoundCall, bound: Arrays, rest: Arrays) -> Outputs:
        """Makes the call and notes it in the recorder."""
        start = time.perf_counter()
        outputs = call(**rest)
        self._recorder.calls.append(Span(self._graph, start, time.perf_counter()))
        if self._recorder.captured is not None:
            output_bytes = sum(array.nbytes for array in outputs.values())
            self._recorder.captured.append(CapturedCall(self._graph, bound, rest, output_bytes))
        return outputs


def seconds_a_call(times: int = 2000) -> float:
    """What the recorder adds to a call, measured on one that does nothing."""
    idle = RecordedSession("idle", _Idle(), Recorder())
    call, plain = idle.bind(held=np.zeros(1)), idle.wrapped.bind(held=np.zeros(1))
    seconds = []
    for work in (call, plain):
        start = time.perf_counter()
        for _ in range(times):
            work(rest=_NOTHING)
        seconds.append((time.perf_counter() - start) / times)
    return max(0.0, seconds[0] - seconds[1])


_NOTHING = np.zeros(1)


class _Idle(UnboundSession):
    """A Session without a graph."""

    def __call__(self, **arrays: np.ndarray) -> Outputs:
        return {}
