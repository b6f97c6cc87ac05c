"""Requests that share steps: calls that several runs make of one graph at the same time become one call of it.

Each run walks on its own, in a thread of its own, with its own sampler, steps, prompt and strength. What they share is
the call of the network, in which every row stands for itself: keys and values, strength and timestep are inputs of each
row. So a run may join at any step and leave at any step, and no run waits for another's last.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition
from time import monotonic

import numpy as np

from ...bundle.calls import Tensor
from ...errors import InputError
from ...sessions.session import Arrays, BoundCall, Outputs, Session, SessionWrapper

PATIENCE = 0.25
"""Share of the latest call's time that a call waits for those of other runs. One whose picture is being previewed, or
whose thread is late, is not waited for any longer."""
LEAST_PATIENCE = 0.002
"""Seconds: threads are woken in less."""


@dataclass(slots=True, eq=False)
class _Call:
    """A call that waits, of a session with `bound` inputs, which `alone` calls for this run by itself."""

    session: Session
    alone: BoundCall
    bound: Arrays
    rest: Arrays
    came: float
    outputs: Outputs | None = None
    error: InputError | None = None
    left: bool = False
    """Whoever was to make it failed."""

    @property
    def rows(self) -> int:
        return len(next(iter((self.rest or self.bound).values())))

    @property
    def ended(self) -> bool:
        return self.outputs is not None or self.error is not None

    def kind(self) -> tuple:
        """What calls must have in common to become one."""
        arrays = [*self.bound.items(), *self.rest.items()]
        return id(self.session), tuple(sorted((name, array.dtype.str, array.shape[1:]) for name, array in arrays))

    def make(self) -> None:
        """Makes it by itself."""
        try:
            self.outputs = self.alone(**self.rest)
        except InputError as error:
            self.error = error


@dataclass(slots=True)
class _Joined:
    """A session with those inputs bound that stay the same from step to step, for the runs that were called last."""

    bound: list[Arrays] = field(default_factory=list)
    call: BoundCall | None = None

    def of(self, calls: Sequence[_Call]) -> BoundCall:
        """The session for these runs, one after the other."""
        if self.call is None or [id(each.bound) for each in calls] != [id(each) for each in self.bound]:
            self.bound = [each.bound for each in calls]
            self.call = calls[0].session.bind(**_stacked(self.bound))
        return self.call


class SharedSteps:
    """The meeting place of one bundle's runs. `session` wraps a graph that its steps call; a run stands inside
    `walking()` as long as it walks. With `in_powers` only 1, 2, 4, 8... runs are called at once, for a backend that
    compiles a graph anew for each number of rows."""

    def __init__(self, in_powers: bool = False) -> None:
        self.in_powers = in_powers
        self._changed = Condition()
        self._walking = 0
        self._waiting: list[_Call] = []
        self._calling = False
        self._latest, self._returned = 0.0, 0.0
        self._joined: dict[tuple, _Joined] = {}
        self.calls: Counter[int] = Counter()
        """How many calls were made for so many runs at once."""

    def session(self, session: Session) -> Session:
        """The session, whose calls are joined where all its inputs have a row for each picture."""
        return _SharedSession(session, self) if all(map(_has_rows, session.inputs)) else session

    @contextmanager
    def walking(self) -> Iterator[None]:
        """Around the steps of one run."""
        with self._changed:
            self._walking += 1
        try:
            yield
        finally:
            with self._changed:
                self._walking -= 1
                if not self._walking:
                    # The last ones' context need not stay in memory.
                    self._joined.clear()
                self._changed.notify_all()

    def call(self, session: Session, alone: BoundCall, bound: Arrays, rest: Arrays) -> Outputs:
        """What a session gives for these rows; `alone` is the session with `bound` bound already."""
        mine = _Call(session, alone, bound, rest, monotonic())
        with self._changed:
            self._waiting.append(mine)
            self._changed.notify_all()
            calls = self._met(mine)
        if calls:
            self._make(calls)
        if mine.left:
            mine.make()
        if mine.error is not None:
            raise mine.error
        assert mine.outputs is not None, "a call that nobody made"
        return mine.outputs

    def _met(self, mine: _Call) -> list[_Call]:
        """The calls that this thread is to make; none where another has made its own."""
        while not (mine.ended or mine.left):
            left = None
            if not self._calling and self._waiting:
                since = max(self._returned, min(call.came for call in self._waiting))
                left = since + max(LEAST_PATIENCE, PATIENCE * self._latest) - monotonic()
                if len(self._waiting) >= self._walking or left <= 0:
                    calls, self._waiting, self._calling = self._waiting, [], True
                    return calls
            self._changed.wait(left)
        return []

    def _make(self, calls: list[_Call]) -> None:
        groups: dict[tuple, list[_Call]] = {}
        for call in calls:
            groups.setdefault(call.kind() if len(calls) > 1 else (), []).append(call)
        begun = monotonic()
        try:
            for kind, group in groups.items():
                for part in self._parts(group):
                    self._make_group(kind, part)
        finally:
            with self._changed:
                for call in calls:
                    call.left = not call.ended
                self._calling, self._returned = False, monotonic()
                self._latest = self._returned - begun
                self._changed.notify_all()

    def _parts(self, group: list[_Call]) -> Iterator[list[_Call]]:
        """Those of a group that are called at once."""
        while group:
            most = 2 ** (len(group).bit_length() - 1) if self.in_powers else len(group)
            yield group[:most]
            group = group[most:]

    def _make_group(self, kind: tuple, group: list[_Call]) -> None:
        if len(group) > 1 and self._make_joined(kind, group):
            self.calls[len(group)] += 1
            return
        for call in group:
            call.make()
            self.calls[1] += 1

    def _make_joined(self, kind: tuple, group: list[_Call]) -> bool:
        """Makes several calls as one; False where the library refuses it, as for want of memory, which each by itself
        may have."""
        try:
            outputs = self._joined.setdefault(kind, _Joined()).of(group)(**_stacked([call.rest for call in group]))
        except (InputError, MemoryError):
            return False
        first = 0
        for call in group:
            rows = slice(first, first + call.rows)
            call.outputs = {name: array[rows].copy() for name, array in outputs.items()}
            first = rows.stop
        return True


class _SharedSession(SessionWrapper):
    def __init__(self, wrapped: Session, shared: SharedSteps):
        super().__init__(wrapped)
        self._shared = shared

    def __call__(self, **arrays: np.ndarray) -> Outputs:
        return self._shared.call(self.wrapped, self.wrapped, {}, arrays)

    def bind(self, **arrays: np.ndarray) -> BoundCall:
        alone = self.wrapped.bind(**arrays)
        return lambda **rest: self._shared.call(self.wrapped, alone, arrays, rest)


def _has_rows(tensor: Tensor) -> bool:
    """Whether a free size of its own counts the rows."""
    return bool(tensor.shape) and tensor.shape[0] == "batch"


def _stacked(parts: Sequence[Arrays]) -> Arrays:
    """The rows of all, one after the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
