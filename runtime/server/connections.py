"""Connections: how many stand at once, how long the head of a request may take, and what is said to what is no HTTP."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import h11
from starlette.types import ASGIApp
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from ..errors import InputError, reason
from ..files.reading import SMALL_FILE_BYTES, open_given
from .refusals import ApiError
from .settings import ServerLimits

ANSWER_SECONDS = 5
"""How long answers may still take once every job has ended."""
RETRY_SECONDS = 5
STALLED_SECONDS = 60.0
"""How long a client may leave what it asked for unread."""


def uvicorn_config(app: ASGIApp, limits: ServerLimits, cert: Path | None = None, key: Path | None = None) -> Config:
    """What uvicorn is told of a server. Raises InputError for a certificate or a key that cannot be read."""
    for option, path, kind in (("--tls-cert", cert, "a certificate in PEM"), ("--tls-key", key, "a key in PEM")):
        if path is not None:
            # Of a pipe or an endless device the library would read until something ends it.
            open_given(path, f"{option} {path}", kind, SMALL_FILE_BYTES).close()
    config = Config(
        app,
        http=connection_class(limits),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        ssl_certfile=cert,
        ssl_keyfile=None if key is None else str(key),
        timeout_graceful_shutdown=ANSWER_SECONDS,
    )
    try:
        config.load()
    except OSError as error:
        expected = "--tls-cert and --tls-key: expected a certificate and its key in PEM"
        raise InputError(f"{expected}, got others ({reason(error)}); check both files") from error
    return config


def connection_class(limits: ServerLimits) -> type[H11Protocol]:
    """The protocol of a server's connections, for uvicorn.

    Beyond `limits.connections` of them one is refused (503) and closed. One that has not sent the head of a request
    after `limits.head_seconds` is closed: else a few hundred that send nothing would take all the others' places.
    """
    return type("LimitedConnection", (Connection,), {"limits": limits})


class Connection(H11Protocol):
    """One connection, within `limits`."""

    limits: ClassVar[ServerLimits] = ServerLimits()
    _head: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Counts it, and begins to wait for a request."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            message = f"expected at most {self.limits.connections} connections, got one more; close others"
            self._refuse(ApiError(503, message, None, "busy", {"Retry-After": str(RETRY_SECONDS)}))
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the waits as well."""
        super().connection_lost(exc)
        self._forget_head()
        self._forget_stalled()

    def data_received(self, data: bytes) -> None:
        """Some bytes of a request, perhaps the rest of its head."""
        super().data_received(data)
        self._await_head()

    def pause_writing(self) -> None:
        """The client reads no faster than this."""
        super().pause_writing()
        self._forget_stalled()
        self._stalled = self.loop.call_later(STALLED_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It read on."""
        super().resume_writing()
        self._forget_stalled()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is told so as any other bad input, where an answer has not begun already."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._refuse(
                ApiError(400, "request: expected HTTP/1.1, got other bytes; send it by a client", None, "invalid_http")
            )
        self.transport.close()

    def _await_head(self) -> None:
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self._forget_head()
        elif self._head is None:
            self._head = self.loop.call_later(self.limits.head_seconds, self.transport.close)

    def _forget_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _forget_stalled(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _refuse(self, error: ApiError) -> None:
        self.transport.write(plain_answer(error.status, error.body(), error.headers))
        self.transport.close()


def plain_answer(status: int, body: Mapping[str, Any], headers: Mapping[str, str]) -> bytes:
    """An answer of HTTP/1.1 as bytes, after which the connection ends."""
    data = json.dumps(body).encode()
    fields = {"Content-Type": "application/json", "Content-Length": str(len(data)), "Connection": "close", **headers}
    lines = [f"HTTP/1.1 {status} {STATUS_PHRASES[status].decode()}", *(f"{name}: {fields[name]}" for name in fields)]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + data
