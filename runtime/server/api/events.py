"""Server-sent events, and what is done once nobody reads them any more."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

ALIVE_SECONDS = 15.0
"""After so long without an event a stream says that it is alive."""
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"}
Events = AsyncIterator[tuple[str, Any]]
"""(the event's name, its data as JSON)."""


class EventStream(StreamingResponse):
    """Events as text/event-stream, with a comment where nothing happens for a while; `left` is called once the last was
    sent, or the client has gone, also where it went before the first."""

    def __init__(self, events: Events, left: Callable[[], object]):
        super().__init__(_lines(events), media_type="text/event-stream", headers=HEADERS)
        self._left = left

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends them."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._left()


async def _lines(events: Events) -> AsyncIterator[str]:
    following: asyncio.Future[tuple[str, Any]] | None = None
    try:
        while True:
            following = following or asyncio.ensure_future(anext(events))
            done, _ = await asyncio.wait([following], timeout=ALIVE_SECONDS)
            if not done:
                yield ": alive\n\n"
                continue
            try:
                name, data = following.result()
            except StopAsyncIteration:
                return
            following = None
            yield f"event: {name}\ndata: {json.dumps(data, allow_nan=False)}\n\n"
    finally:
        if following is not None:
            following.cancel()
