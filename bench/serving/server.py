"""A server in a process of its own, and requests to it."""

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

GENERATIONS = "/v1/images/generations"
READY_SECONDS = 600
IDLE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, and after how many seconds; the status is 0 where the connection broke."""

    status: int
    body: bytes
    seconds: float

    def json(self) -> Any:
        """The body's values."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server on the loopback; each request has a connection of its own, but those of `kept`."""

    process: psutil.Process
    port: int

    @property
    def memory(self) -> int:
        """Bytes that it has in memory."""
        return int(self.process.memory_info().rss)

    @contextmanager
    def kept(self) -> Iterator[Callable[[str, Mapping[str, Any]], Answer]]:
        """`post` over one connection, as clients keep it, and as servers let them: not for long where it is idle."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=READY_SECONDS)
        used = time.perf_counter()

        def post(path: str, body: Mapping[str, Any]) -> Answer:
            nonlocal used
            if time.perf_counter() - used > IDLE_SECONDS:
                connection.close()
            answer = _asked(connection, "POST", path, json.dumps(body).encode())
            used = time.perf_counter()
            return answer

        try:
            yield post
        finally:
            connection.close()

    def post(self, path: str, body: Mapping[str, Any], timeout: float = READY_SECONDS) -> Answer:
        """One request on a connection of its own."""
        return self._request("POST", path, json.dumps(body).encode(), timeout)

    def get(self, path: str) -> Answer:
        """One request on a connection of its own."""
        return self._request("GET", path, None, READY_SECONDS)

    def _request(self, method: str, path: str, body: bytes | None, timeout: float) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        began = time.perf_counter()
        try:
            return _asked(connection, method, path, body)
        except (OSError, http.client.HTTPException):
            return Answer(0, b"", time.perf_counter() - began)
        finally:
            connection.close()


def _asked(connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None) -> Answer:
    began = time.perf_counter()
    connection.request(method, path, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return Answer(answer.status, answer.read(), time.perf_counter() - began)


@contextmanager
def x2i_server(bundles: Sequence[Path], *options: str) -> Iterator[RunningServer]:
    """`x2i serve` with some bundles, once it is ready."""
    port = free_port()
    words = [*map(str, bundles), "--port", str(port), "--queue", "10000", *options]
    program = "from x2i.runtime.cli import main; main()"
    with running_server([sys.executable, "-P", "-c", program, "serve", *words], port, "/health/ready") as server:
        yield server


@contextmanager
def running_server(command: Sequence[str], port: int, ready: str) -> Iterator[RunningServer]:
    """A server's process, once GET `ready` is answered with 200; ended behind it."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server = RunningServer(psutil.Process(process.pid), port)
    try:
        until = time.monotonic() + READY_SECONDS
        while server.get(ready).status != 200:
            assert process.poll() is None and time.monotonic() < until, f"not ready: {' '.join(command)}"
            time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        process.wait(60)


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
