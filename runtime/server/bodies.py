"""The bodies of requests: how large they may be, how slowly they may come, and how much memory all of them take."""

import asyncio
from collections.abc import Callable
from time import monotonic

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .refusals import ApiError
from .settings import ServerLimits

LEAST_RATE = 64 * 1024
"""Bytes a second: whoever sends fewer for long is not waited for."""
FREE_BYTES = 64 * 1024
"""Smaller bodies are always read: all connections together cannot bring many of them."""
REST_SECONDS = 2.0
"""How long what is left of a refused body is read: a connection that is closed before it would lose the answer."""
READ = "x2i.body_read"
"""Where a request's scope holds what its handler calls once it has no more use for the body."""


class BodyLimits:
    """Refuses bodies of more than `limits.body_bytes` (413), those that come too slowly (408), and those for which the
    others that are being read leave no memory (503)."""

    def __init__(self, app: ASGIApp, limits: ServerLimits):
        self._app, self._limits, self._held = app, limits, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(Headers(scope=scope), receive, self._limits, self._hold)
        answered = False

        async def noted(message: Message) -> None:
            nonlocal answered
            if not answered and not await body.read_rest():
                # Else whoever goes on sending it could hold the connection for ever.
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            answered = True
            await send(message)

        scope[READ] = body.release
        try:
            body.begin()
            await self._app(scope, body.receive, noted)
        except ApiError as error:
            if answered:
                raise
            body.release()
            await JSONResponse(error.body(), error.status, error.headers)(scope, receive, noted)
        except ClientDisconnect:
            # Nobody waits for an answer to half a request.
            return
        finally:
            body.release()

    def _hold(self, more: int) -> bool:
        """Counts bytes that are read, or with a negative number, let go of; False where there are too many."""
        if more > 0 and self._held + more > max(self._limits.reading_bytes, self._limits.body_bytes):
            return False
        self._held += more
        return True


def body_read(scope: Scope) -> None:
    """To be called by a handler that has no more use for its request's body, and will still take a while."""
    scope[READ]()


class _Body:
    """One body on its way."""

    def __init__(self, headers: Headers, receive: Receive, limits: ServerLimits, hold: Callable[[int], bool]):
        length = headers.get("content-length", "")
        self._length = int(length) if length.isascii() and length.isdecimal() else 0
        # Without either there is none.
        self._whole = not self._length and "transfer-encoding" not in headers
        self._receive, self._limits, self._hold = receive, limits, hold
        self._begun, self._came, self._held, self._slow = monotonic(), 0, 0, False

    def begin(self) -> None:
        """Raises ApiError for one that says that it is too large, now or beside the others."""
        if self._length > self._limits.body_bytes:
            raise self._too_large()
        self._take(self._length)

    async def receive(self) -> Message:
        """The next message, as ASGI has it. Raises ApiError."""
        if self._whole:
            return await self._receive()
        left = self._begun + self._limits.body_seconds + self._came / LEAST_RATE - monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), left)
        except TimeoutError as error:
            self._slow = True
            said = f"body: expected more than {LEAST_RATE // 1024} KiB a second, got fewer; send it faster"
            raise ApiError(408, said, None, "timeout") from error
        part = len(message.get("body", b""))
        self._came += part
        self._whole = not message.get("more_body", False)
        if self._came > self._limits.body_bytes:
            raise self._too_large()
        self._take(self._came)
        return message

    async def read_rest(self) -> bool:
        """Reads what nobody wants, as far as it comes soon and is not much; False where there is still more."""
        most = 2 * self._limits.body_bytes
        try:
            async with asyncio.timeout(REST_SECONDS):
                while not (self._whole or self._slow) and max(self._came, self._length) <= most:
                    message = await self._receive()
                    self._came += len(message.get("body", b""))
                    self._whole = not message.get("more_body", False)
        except TimeoutError:
            return False
        return self._whole

    def _take(self, size: int) -> None:
        """Makes sure that there is memory for so many bytes of it."""
        more = size - self._held
        if size <= FREE_BYTES or more <= 0:
            return
        if not self._hold(more):
            said = "expected less to read at once, got more requests with large files; try again in 1 s"
            raise ApiError(503, said, None, "busy", {"Retry-After": "1"})
        self._held = size

    def release(self) -> None:
        """Its bytes are no longer in memory."""
        self._hold(-self._held)
        self._held = 0

    def _too_large(self) -> ApiError:
        most = self._limits.body_bytes
        return ApiError(413, f"body: expected at most {most} bytes, got more; send smaller files", None, "too_large")
