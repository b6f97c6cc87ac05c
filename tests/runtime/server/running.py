"""A server of tests: in this process on a thread of its own, and what is asked of it."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from PIL import Image
from x2i.runtime.server.app import create_app
from x2i.runtime.server.connections import uvicorn_config
from x2i.runtime.server.jobs.job import Job
from x2i.runtime.server.models.batch_sizes import BatchSize, BatchSizes
from x2i.runtime.server.models.bundles import ServedBundle
from x2i.runtime.server.service import Service
from x2i.runtime.server.settings import ServerLimits, ServerSettings

SECONDS = 60.0
"""After so long a test gives up waiting."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: `headers` by their names in lower case."""

    status: int
    headers: dict[str, str]
    data: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.data)

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = self.json["error"]
        assert set(found) == {"message", "type", "param", "code"}
        return found


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event."""

    name: str
    data: Any


class Running:
    """A server that runs at a port of this machine."""

    def __init__(self, service: Service, port: int):
        self.service, self.port = service, port
        self.url = f"http://127.0.0.1:{port}"

    def bundle(self, name: str = "") -> ServedBundle:
        return self.service.bundles[name or self.service.bundles.names[0]]

    def ask(self, method: str, path: str, body: Any = None, client: str = "127.0.0.1", **headers: str) -> Answer:
        """One request, of a client at an address of this machine; a body that is no bytes is sent as JSON."""
        with self.opened(method, path, body, client, **headers) as response:
            data = response.read()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, data)

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        return self.ask("POST", path, body, **headers)

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    @contextmanager
    def opened(
        self, method: str, path: str, body: Any = None, client: str = "127.0.0.1", **headers: str
    ) -> Iterator[HTTPResponse]:
        """The answer as it comes; the connection ends with the block."""
        connection = HTTPConnection("127.0.0.1", self.port, SECONDS, source_address=(client, 0))
        if body is not None and not isinstance(body, bytes):
            body, headers = json.dumps(body).encode(), {"Content-Type": "application/json", **headers}
        try:
            connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
            yield connection.getresponse()
        finally:
            connection.close()

    def submit(self, prompt: str | None = None, previews: int = 0, bundle: str = "", **options: Any) -> Job:
        """A job of the native interface, as the server has it."""
        body = {"bundle": bundle or None, "prompt": prompt, "options": options, "previews": previews}
        answer = self.post("/x2i/v1/jobs", body)
        assert answer.status == 202, answer.data
        return self.service.scheduler.find(answer.json["id"])

    def ended(self, job: Job) -> dict[str, Any]:
        """A job's view once it has ended."""
        wait_until(job.ended.is_set)
        found: dict[str, Any] = self.get(f"/x2i/v1/jobs/{job.id}").json
        return found

    def pictures(self, job: Job) -> list[Image.Image]:
        view = self.ended(job)
        assert view["state"] == "done", view["error"]
        return [opened(self.get(each["url"]).data) for each in view["result"]["pictures"]]

    def raw(self, data: bytes, seconds: float = SECONDS) -> bytes:
        """What comes back for some bytes until the connection ends."""
        with socket.create_connection(("127.0.0.1", self.port), seconds) as sent:
            received = []
            try:
                sent.sendall(data)
                while part := sent.recv(65536):
                    received.append(part)
            except ConnectionError:
                pass
            return b"".join(received)


@contextmanager
def running(
    *bundles: Path, tls: tuple[Path, Path] | None = None, ready: bool = True, **chosen: Any
) -> Iterator[Running]:
    """A server of some bundles, which have been opened where it is to be `ready`; fields of its limits and of its
    settings by their names."""
    limits = ServerLimits(**{name: chosen.pop(name) for name in list(chosen) if hasattr(ServerLimits, name)})
    settings = ServerSettings(bundles, "cpu", 1, limits=limits, **chosen)
    app = create_app(settings)
    server = uvicorn.Server(uvicorn_config(app, limits, *(tls or ())))
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    service: Service = app.state.service
    try:
        wait_until(lambda: service.ready or service.failure is not None or (server.started and not ready))
        assert service.failure is None, service.failure
        yield Running(service, listener.getsockname()[1])
    finally:
        for job in service.scheduler.running:
            job.stop.set()
        server.should_exit = True
        thread.join(SECONDS)
    assert not thread.is_alive(), "a server that does not stop"


def wait_until(holds: Callable[[], Any]) -> None:
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


def events(response: HTTPResponse) -> Iterator[Event]:
    """The server-sent events of an answer."""
    name = ""
    while line := response.readline():
        kind, _, text = line.decode().rstrip("\n").partition(": ")
        if kind == "event":
            name = text
        elif kind == "data":
            yield Event(name, json.loads(text))


class Gate:
    """Stands before the calls of a bundle's network, and lets through as many as it is told to; counts those that came
    through, how many more may (`left`), and how many are standing before it."""

    def __init__(self, bundle: ServedBundle):
        self.calls = self.standing = 0
        self._open, self._may = True, threading.Condition()
        self.left = 0
        self._shared, self._call = bundle.shared, bundle.shared.call
        bundle.shared.call = self._counted  # type: ignore[method-assign]

    def close(self) -> None:
        self._open, self.left = False, 0

    def open(self) -> None:
        with self._may:
            self._open = True
            self._may.notify_all()

    def let(self, calls: int) -> None:
        with self._may:
            self.left += calls
            self._may.notify_all()

    def remove(self) -> None:
        self.open()
        self._shared.call = self._call  # type: ignore[method-assign]

    def _counted(self, *arguments: Any) -> Any:
        with self._may:
            self.standing += 1
            assert self._may.wait_for(lambda: self._open or self.left, SECONDS)
            self.standing -= 1
            self.left = max(0, self.left - 1)
            self.calls += 1
        return self._call(*arguments)


def share_steps(bundle: ServedBundle, most: int = 16) -> None:
    """As if it had been measured that so many pictures share a step, whatever their size."""
    rates = {"1": 1.0, str(most): float(most)}
    bundle.sizes = BatchSizes("", "cpu", 1, (BatchSize((16384, 16384), rates, most),))


def opened(data: bytes, bare: bool = False) -> Image.Image:
    """A picture, or its pixels alone."""
    image = Image.open(BytesIO(data))
    image.load()
    return Image.fromarray(np.asarray(image)) if bare else image


def picture(seed: int = 0, size: tuple[int, int] = (40, 48), mode: str = "RGB") -> bytes:
    """A PNG of noise, (width, height)."""
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    stream = BytesIO()
    Image.fromarray(noise).convert(mode).save(stream, "PNG")
    return stream.getvalue()


def form(fields: dict[str, str], files: list[tuple[str, bytes]]) -> tuple[bytes, str]:
    """A body of multipart/form-data, and its Content-Type."""
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{text}'.encode() for name, text in fields.items()]
    for name, data in files:
        head = f'Content-Disposition: form-data; name="{name}"; filename="a"\r\n'
        parts.append(f"{head}Content-Type: application/octet-stream\r\n\r\n".encode() + data)
    return b"".join(b"--edge\r\n" + part + b"\r\n" for part in parts) + b"--edge--\r\n", (
        "multipart/form-data; boundary=edge"
    )


def untrusting() -> ssl.SSLContext:
    """Takes any certificate: that of the test is its own."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
