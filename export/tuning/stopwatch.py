"""Sessions that keep how long each of their calls took."""

import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial

import numpy as np
from x2i.runtime.sessions.session import Outputs, Session

from .counts import Call


class Stopwatch:
    """Seconds of every call, by graph and rows of the batch."""

    def __init__(self) -> None:
        self.seconds: dict[Call, list[float]] = defaultdict(list)

    def best(self, call: Call) -> float:
        """The least of a call's times: what else the machine did only ever adds."""
        return min(self.seconds[call])

    def watched(self, name: str, session: Session) -> Session:
        return _Watched(name, session, self)


class _Watched:
    def __init__(self, name: str, session: Session, watch: Stopwatch):
        self.inputs, self.outputs = session.inputs, session.outputs
        self._name, self._session, self._watch = name, session, watch

    def __call__(self, **arrays: np.ndarray) -> Outputs:
        return self._timed(self._session, **arrays)

    def bind(self, **arrays: np.ndarray) -> Callable[..., Outputs]:
        return partial(self._timed, self._session.bind(**arrays))

    def _timed(self, call: Callable[..., Outputs], **arrays: np.ndarray) -> Outputs:
        began = time.perf_counter()
        outputs = call(**arrays)
        rows = len(next(iter(arrays.values())))
        self._watch.seconds[self._name, rows].append(time.perf_counter() - began)
        return outputs
