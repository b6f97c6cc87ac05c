"""Who may ask, how much a request may hold, and what is written of each: layers around the application."""

import hashlib
import hmac
import json
import logging
import time
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .refusals import ApiError

access_log = logging.getLogger("x2i.access")
OPEN_PATHS = ("/", "/health/live", "/health/ready")
"""What needs no key: the page, which asks for it, and health."""
OPEN_PREFIX = "/x2i/v1/results/"
"""Results neither: a browser sends no key for a picture, and nobody guesses their names."""


class KeyCheck:
    """Refuses (401) whoever does not send the key as `Authorization: Bearer KEY`; a wrong one takes as long as a right
    one."""

    def __init__(self, app: ASGIApp, key: str):
        self._app, self._key = app, _digest(key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http" and not self._may(scope):
            message = "Authorization: expected Bearer and this server's key, got another or none; send it"
            await _refuse(
                ApiError(401, message, None, "invalid_api_key", {"WWW-Authenticate": "Bearer"}), scope, receive, send
            )
            return
        await self._app(scope, receive, send)

    def _may(self, scope: Scope) -> bool:
        path = scope["path"]
        if path in OPEN_PATHS or path.startswith(OPEN_PREFIX) or scope["method"] == "OPTIONS":
            return True
        scheme, _, sent = Headers(scope=scope).get("authorization", "").partition(" ")
        # Digests are of one length, whatever was sent.
        return hmac.compare_digest(_digest(sent.strip()), self._key) and scheme.lower() == "bearer"


class BodyLimit:
    """Refuses (413) bodies of more than `most` bytes, whether they say so or not."""

    def __init__(self, app: ASGIApp, most: int):
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        told, came, answered = Headers(scope=scope).get("content-length", ""), 0, False
        refusal = ApiError(
            413, f"body: expected at most {self._most} bytes, got more; send smaller files", None, "too_large"
        )
        if told.isdigit() and int(told) > self._most:
            await _refuse(refusal, scope, receive, send)
            return

        async def counted() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > self._most:
                raise refusal
            return message

        async def noted(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self._app(scope, counted, noted)
        except ApiError as error:
            if answered:
                raise
            await _refuse(error, scope, receive, send)
        except ClientDisconnect:
            # Nobody waits for an answer to half a request.
            return


class AccessLog:
    """Writes a line of JSON for each request, once it is answered: without its body, so without prompts."""

    def __init__(self, app: ASGIApp, prompts: bool = False):
        self._app, self._prompts = app, prompts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status, sent = time.perf_counter(), 0, 0

        async def noted(message: Message) -> None:
            nonlocal status, sent
            status = message.get("status", status)
            sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            line: dict[str, Any] = {
                "time": round(time.time(), 3),
                "client": (scope.get("client") or ("",))[0],
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "bytes": sent,
                "seconds": round(time.perf_counter() - begun, 4),
            }
            if self._prompts:
                line |= {"prompt": scope.get("state", {}).get("prompt")}
            access_log.info(json.dumps(line))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


async def _refuse(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    await JSONResponse(error.body(), error.status, error.headers)(scope, receive, send)
