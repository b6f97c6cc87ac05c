"""Who may ask, and what is written of each request: layers around the application."""

import hashlib
import hmac
import json
import logging
import time
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .refusals import CLIENT_CLOSED, ApiError
from .tracing import request_trace

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
            error = ApiError(401, message, None, "invalid_api_key", {"WWW-Authenticate": "Bearer"})
            await JSONResponse(error.body(), error.status, error.headers)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _may(self, scope: Scope) -> bool:
        path = scope["path"]
        if path in OPEN_PATHS or path.startswith(OPEN_PREFIX) or scope["method"] == "OPTIONS":
            return True
        scheme, _, sent = Headers(scope=scope).get("authorization", "").partition(" ")
        # Digests are of one length, whatever was sent.
        return hmac.compare_digest(_digest(sent.strip()), self._key) and scheme.lower() == "bearer"


class AccessLog:
    """Writes a line of JSON for each request, once it is answered: without its body, so without prompts."""

    def __init__(self, app: ASGIApp, prompts: bool = False):
        self._app, self._prompts = app, prompts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status, sent, ended = time.perf_counter(), 0, 0, False

        async def noted(message: Message) -> None:
            nonlocal status, sent
            status = message.get("status", status)
            sent += len(message.get("body", b""))
            await send(message)

        try:
            with request_trace(scope):
                await self._app(scope, receive, noted)
            ended = True
        finally:
            line: dict[str, Any] = {
                "time": round(time.time(), 3),
                "client": (scope.get("client") or ("",))[0],
                "method": scope["method"],
                "path": scope["path"],
                "status": status or (CLIENT_CLOSED if ended else 500),
                "bytes": sent,
                "seconds": round(time.perf_counter() - begun, 4),
            }
            if self._prompts:
                line |= {"prompt": scope.get("state", {}).get("prompt")}
            access_log.info(json.dumps(line))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
