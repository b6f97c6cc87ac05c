"""One bad input, and how a worker tries it."""

import os
import resource
import signal
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from .held import memory, traceback_problem
from .room import Room

SECONDS = 40
"""After them an input counts as one that hangs; on an idle machine the slowest takes a fifth."""
ADDRESSES = 6 << 30
"""Bytes of addresses that a worker may have beyond those it begins with: what runs away ends there."""


@dataclass(frozen=True, slots=True)
class Case:
    """`attempt(room)` says why the input did not hold, None where it did."""

    kind: str
    name: str
    attempt: Callable[[Room], str | None]


class Stuck(BaseException):
    """Raised where an input does not come to an end."""


_ROOM: list[Room] = []


def enter(sources: Mapping[str, Path], scratch: Path) -> None:
    """Makes this process a worker: its own room, its own limit of memory."""
    os.environ.pop("X2I_BACKEND", None)
    os.environ["X2I_BACKEND"] = "cpu"
    _ROOM.append(Room(Path(tempfile.mkdtemp(prefix="worker-", dir=scratch)), sources))
    most = memory("VmSize") + ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, _stuck)


def tried(case: Case) -> str | None:
    """Why an input did not hold, None where it did; the room is empty again afterwards."""
    room = _ROOM[0]
    signal.alarm(SECONDS)
    try:
        return case.attempt(room)
    except Stuck as stuck:
        return f"hang: {traceback_problem(stuck)}"
    except BaseException as error:  # A panic of a library in Rust, for one, is no Exception.
        return traceback_problem(error)
    finally:
        signal.alarm(0)
        room.clear()


def _stuck(number: int, frame: FrameType | None) -> None:
    raise Stuck
