"""A job: what a client asks for, how far it is, what came of it, and those who watch it.

All of it lives on the thread of the server's event loop; the thread that draws tells that one (see `drawing`), and
writes nothing but the number of its step.
"""

import asyncio
import secrets
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any, Literal

from opentelemetry import context

from ...request import Request
from ..refusals import ApiError

State = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED: tuple[State, ...] = ("done", "failed", "cancelled")
MOST_UNREAD = 256
"""Events that wait for one who watches; of one who reads no faster the oldest are dropped."""


@dataclass(frozen=True, slots=True)
class PictureFormat:
    """How pictures are written: `name` is png, jpeg or webp, `quality` from 1 to 100 that of the last two."""

    name: Literal["png", "jpeg", "webp"] = "png"
    quality: int = 90

    @property
    def media_type(self) -> str:
        """As HTTP names it."""
        return f"image/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of the bundle `bundle`, with at most `previews` on the way; `notes` become warnings of its result."""

    bundle: str
    prompt: str | None
    options: Mapping[str, Any]
    previews: int = 0
    picture_format: PictureFormat = field(default_factory=PictureFormat)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(Call):
    """What a client asks for: a call that was checked as `request` and takes about so many `steps`. `folder` holds the
    files that came with it, and goes with the job."""

    request: Request
    steps: int
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class ResultFile:
    """One picture or sound as bytes, and what is told of it: width and height, or rate and seconds."""

    name: str
    media_type: str
    data: bytes
    facts: Mapping[str, Any]

    @property
    def base64(self) -> str:
        """The bytes as text."""
        return b64encode(self.data).decode()


@dataclass(frozen=True, slots=True)
class Result:
    """What a job gave."""

    pictures: tuple[ResultFile, ...]
    sounds: tuple[ResultFile, ...]
    texts: tuple[str, ...]
    tokens: list[list[int]] | None
    warnings: tuple[str, ...]
    seconds: Mapping[str, float]

    @property
    def bytes(self) -> int:
        """What its files take."""
        return sum(len(file.data) for file in (*self.pictures, *self.sounds))


@dataclass(frozen=True, slots=True)
class JobEvent:
    """`name` is job, step or preview; `data` is JSON."""

    name: str
    data: Mapping[str, Any]


class Watch(asyncio.Queue[JobEvent]):
    """Events that one who watches has not read yet."""


class Job:
    """One request's work. `client` is whom the queue is fair to."""

    def __init__(self, asked: Asked, client: str):
        # As many bits as a key: whoever knows the id may have the result.
        self.id = secrets.token_urlsafe(18)
        self.asked, self.client = asked, client
        self.state: State = "queued"
        self.created, self.begun, self.ended_at = time.time(), None, None  # type: float, float | None, float | None
        self.step, self.steps = 0, None  # type: int, int | None
        self.preview: Mapping[str, Any] | None = None
        """The latest one, as long as it is drawn."""
        self.result: Result | None = None
        self.error: ApiError | None = None
        self.stop = Event()
        """Set where its drawing is to end; its thread looks after every step."""
        self.trace = context.get_current()
        """OpenTelemetry's, of the request that brought it."""
        self.ended = asyncio.Event()
        self.timer: asyncio.TimerHandle | None = None
        """What will end it, or forget it; cancelled, it holds the job no longer."""
        self._watching: set[Watch] = set()

    def begin(self) -> None:
        """It is being drawn."""
        self.state, self.begun = "running", time.time()

    def end(self, state: State, result: Result | None = None, error: ApiError | None = None) -> None:
        """Its last state."""
        self.state, self.result, self.error, self.ended_at = state, result, error, time.time()
        self.preview = None
        self.ended.set()

    @property
    def watched(self) -> bool:
        """Whether anybody watches."""
        return bool(self._watching)

    def publish(self, event: JobEvent) -> None:
        """Tells those who watch."""
        for queue in self._watching:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)

    def watch(self) -> Watch:
        """What happens from this call on, for `events`; to be given back to `leave`."""
        watch = Watch(MOST_UNREAD)
        self._watching.add(watch)
        return watch

    def leave(self, watch: Watch) -> None:
        """Nobody watches that way any more."""
        self._watching.discard(watch)

    async def events(self, watch: Watch) -> AsyncIterator[JobEvent]:
        """What happens until the job has ended; its last event is that of its end."""
        while not (self.ended.is_set() and watch.empty()):
            yield await watch.get()
