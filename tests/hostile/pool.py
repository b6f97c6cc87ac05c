"""Worker processes that try inputs one after another: who dies or hangs is replaced, and the input blamed for it."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

PATIENCE = 10
"""Seconds that a worker gets beyond an input's own, to say that it hung."""


@dataclass(slots=True)
class _Worker:
    """A process, the end of its pipe, the number of the input that it tries, and since when."""

    process: Any
    pipe: Connection
    number: int
    since: float


def results(
    attempt: Callable[[int], str | None], enter: Callable[[], None], count: int, jobs: int, seconds: float
) -> Iterator[tuple[int, str | None]]:
    """`attempt(number)` of every number below `count`, as they are ready; `enter()` comes first in every worker."""
    todo, busy = iter(range(count)), list[_Worker]()
    try:
        while len(busy) < jobs and (number := next(todo, None)) is not None:
            busy.append(_started(attempt, enter, number))
        while busy:
            ready = wait([worker.pipe for worker in busy], timeout=1)
            for worker in list(busy):
                late = time.monotonic() - worker.since > seconds + PATIENCE
                if worker.pipe not in ready and not late:
                    continue
                number, problem, alive = worker.number, *_said(worker, late and worker.pipe not in ready)
                yield number, problem
                following = next(todo, None)
                if following is None or not alive:
                    _end(worker)
                    busy.remove(worker)
                if following is not None and alive:
                    worker.number, worker.since = following, time.monotonic()
                    worker.pipe.send(following)
                elif following is not None:
                    busy.append(_started(attempt, enter, following))
    finally:
        for worker in busy:
            _end(worker)


def _started(attempt: Callable[[int], str | None], enter: Callable[[], None], number: int) -> _Worker:
    context = get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(attempt, enter, theirs, ours), daemon=False)
    process.start()
    theirs.close()
    ours.send(number)
    return _Worker(process, ours, number, time.monotonic())


def _serve(
    attempt: Callable[[int], str | None], enter: Callable[[], None], pipe: Connection, other: Connection
) -> None:
    other.close()
    # A session of its own: what it starts ends with it.
    os.setsid()
    enter()
    while (number := pipe.recv()) is not None:
        pipe.send(attempt(number))


def _said(worker: _Worker, late: bool) -> tuple[str | None, bool]:
    """What a worker says of its input, and whether it goes on."""
    if late:
        return "hang: not even for a signal", False
    try:
        return worker.pipe.recv(), True
    except EOFError:
        worker.process.join()
        return f"died: exit code {worker.process.exitcode}", False


def _end(worker: _Worker) -> None:
    worker.pipe.close()
    with suppress(ProcessLookupError):
        os.killpg(worker.process.pid, signal.SIGKILL)
    worker.process.join()
