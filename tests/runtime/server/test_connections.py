"""Connections and bodies of those who mean it harm, or whose lines are slow."""

import io
import json
import socket
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.runtime.server.running import Gate, Running, form, picture, running, wait_until

pytestmark = pytest.mark.filterwarnings("ignore")
QUICK: dict[str, Any] = {"language": "French", "steps": 3, "size": [64, 64], "sampler": "euler"}
MOST = 100_000
HEAD = b"POST /x2i/v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def small(tiny_bundle: Path) -> Iterator[Running]:
    """With little room and little patience."""
    chosen = {"body_bytes": MOST, "reading_bytes": MOST, "head_seconds": 0.5, "body_seconds": 0.5}
    with running(tiny_bundle, connections=20, pixels=10_000, **chosen) as server:
        yield server


def told(answer: bytes) -> tuple[int, str]:
    """Status and code of a refusal as it came."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), json.loads(body)["error"]["code"]


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n"])
def test_half_a_head_is_not_waited_for(small: Running, sent: bytes) -> None:
    assert small.raw(sent) == b""


def test_half_a_head_behind_a_whole_one(small: Running) -> None:
    with socket.create_connection(("127.0.0.1", small.port), 60) as sent:
        sent.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
        assert sent.recv(65536).startswith(b"HTTP/1.1 200 ")
        sent.sendall(b"GET /")
        while sent.recv(65536):
            continue


@pytest.mark.parametrize("more", [b"Content-Length: 100\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"])
def test_half_a_body_is_not_waited_for(small: Running, more: bytes) -> None:
    assert told(small.raw(HEAD + more)) == (408, "timeout")


def test_a_body_that_trickles_is_not_waited_for(small: Running) -> None:
    with socket.create_connection(("127.0.0.1", small.port), 60) as sent:
        sent.sendall(HEAD + b"Content-Length: 90000\r\n\r\n{")
        sent.settimeout(0.05)
        received = b""
        while b"\r\n\r\n" not in received:
            sent.sendall(b" ")
            try:
                received += sent.recv(65536)
            except TimeoutError:
                continue
    assert received.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "more",
    [
        b"Content-Length: %d\r\n\r\n" % (MOST + 1) + b" " * (MOST + 1),
        b"Content-Length: 99999999999999999999\r\n\r\n" + b" " * 1000,
        b"Transfer-Encoding: chunked\r\n\r\n" + (b"2710\r\n" + b" " * 10_000 + b"\r\n") * 11 + b"0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n" + (b"2710\r\n" + b" " * 10_000 + b"\r\n") * 100,
    ],
)
def test_bodies_that_are_too_large(small: Running, more: bytes) -> None:
    assert told(small.raw(HEAD + b"Connection: close\r\n" + more)) == (413, "too_large")


def test_a_refusal_is_read_by_whoever_still_sends(small: Running) -> None:
    """A connection that is closed before its body was read takes the answer with it."""
    body, kind = form({f"field{number}": "a" * 200 for number in range(300)}, [])
    head = f"POST /v1/images/edits HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    answer = small.raw(f"{head}Connection: close\r\n\r\n".encode() + body)
    assert told(answer) == (400, "invalid_value") and b"at most 200 fields" in answer


def test_bodies_take_their_memory_together(small: Running) -> None:
    with socket.create_connection(("127.0.0.1", small.port), 60) as held:
        held.sendall(HEAD + b"Content-Length: 90000\r\n\r\n" + b" " * 80_000)
        wait_until(lambda: small.post("/x2i/v1/jobs", b" " * 70_000).status == 503)
        busy = small.post("/x2i/v1/jobs", b" " * 70_000)
        assert busy.error["code"] == "busy" and busy.headers["retry-after"] == "1"
        assert small.post("/x2i/v1/jobs", b" " * 60_000).status == 400
    # Whoever leaves gives it back.
    wait_until(lambda: small.post("/x2i/v1/jobs", b" " * 70_000).status == 400)


def test_connections_are_counted(small: Running) -> None:
    standing = [socket.create_connection(("127.0.0.1", small.port), 60) for _ in range(20)]
    wait_until(lambda: told(small.raw(b"")) == (503, "busy") if len(standing) == 20 else False)
    for each in standing:
        each.close()
    wait_until(lambda: small.get("/health/live").status == 200)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 10_000_000,
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: a\r\n" * 30_000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /a\x00b HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_what_is_no_http(small: Running, sent: bytes) -> None:
    answer = small.raw(sent)
    # What comes after the limit of a head may be lost with the connection.
    assert not answer or told(answer) == (400, "invalid_http")


def test_no_http_behind_an_answer(small: Running, caplog: pytest.LogCaptureFixture) -> None:
    answer = small.raw(b"GET /health/live HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n")
    assert answer.startswith(b"HTTP/1.1 ")
    assert not [record for record in caplog.records if record.exc_info]


def test_who_reads_nothing_is_left(small: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("x2i.runtime.server.connections.STALLED_SECONDS", 0.2)
    count = len(_connections(small))
    with socket.create_connection(("127.0.0.1", small.port), 60) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n"
        try:
            for _ in range(2000):
                deaf.sendall(request)
        except OSError:
            pass
        wait_until(lambda: len(_connections(small)) <= count)


def _connections(server: Running) -> list[Any]:
    own = psutil.Process().net_connections("tcp")
    return [each for each in own if each.laddr.port == server.port and each.status == psutil.CONN_ESTABLISHED]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"[" * 50_000, "levels"),
        (b'{"a":' * 20_000, "levels"),
        (b'{"prompt": "a\\ud800"}', "surrogate"),
        (b'{"prompt": "\xff"}', "UTF-8"),
        (b'{"prompt": NaN}', "NaN"),
        (b'{"previews": 1e999}', "too large"),
        (b'{"previews": ' + b"9" * 5000 + b"}", "64 bits"),
        (b'{"prompt": "a", "prompt": "b"}', "twice"),
        (b"[]", "object"),
        (b"", "JSON"),
        (json.dumps(dict.fromkeys(map(str, range(500)), 1)).encode(), "200 fields"),
    ],
)
def test_json_that_means_harm(small: Running, body: bytes, words: str) -> None:
    for path in ("/x2i/v1/jobs", "/v1/images/generations", "/v1/images/edits", "/sdapi/v1/txt2img"):
        answer = small.post(path, body, Content_Type="application/json")
        assert answer.status == 400 and words in answer.error["message"], answer.data
        assert len(answer.data) < 2000


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "multipart/form-data; boundary=é"],
)
def test_other_kinds_of_bodies(small: Running, kind: str) -> None:
    assert small.post("/v1/images/edits", b"a=b", Content_Type=kind).status == 400


def test_json_of_many_values(server: Running) -> None:
    body = b'{"prompt": [' + b"0," * 100_001 + b"0]}"
    answer = server.post("/x2i/v1/jobs", body, Content_Type="application/json")
    assert answer.status == 400 and "at most 100000 values" in answer.error["message"]


def bomb(width: int, height: int) -> bytes:
    """A small PNG of many pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.fixture(scope="module")
def elite(elite_bundle: Path) -> Iterator[Running]:
    with running(elite_bundle, pixels=10_000) as server:
        yield server


def test_pictures_of_too_many_pixels(elite: Running) -> None:
    for pictures in ([bomb(60_000, 60_000)], [bomb(9000, 9000)], [bomb(101, 100)], [picture(size=(80, 80))] * 2):
        files = list(zip(("subject", "mask"), pictures, strict=False))
        body, kind = form({"request": json.dumps({"prompt": "S"})}, files)
        answer = elite.post("/x2i/v1/jobs", body, Content_Type=kind)
        assert answer.status == 400 and " pixels" in answer.error["message"], answer.data
    assert not list(Path(elite.service._uploads.name).iterdir())


def test_a_picture_that_is_cut_off_behind_its_head(elite: Running) -> None:
    body, kind = form({"request": json.dumps({"prompt": "S"})}, [("subject", bomb(90, 90))])
    answer = elite.post("/x2i/v1/jobs", body, Content_Type=kind)
    assert answer.status == 400 and "x2i-server" not in answer.error["message"]
    assert answer.error["message"].startswith("subject subject-1: ")


def test_many_jobs_and_many_who_watch(server: Running, gate: Gate) -> None:
    """What is refused and what is left leaves nothing behind."""
    gate.close()
    jobs = [server.submit("red", **QUICK) for _ in range(5)]
    watched = [_watching(server, jobs[-1].id) for _ in range(50)]
    wait_until(lambda: len(jobs[-1]._watching) == 50)
    for each in watched:
        each.close()
    wait_until(lambda: not jobs[-1]._watching)
    body = json.dumps({"prompt": "red", "options": QUICK}).encode()
    request = HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
    with socket.create_connection(("127.0.0.1", server.port), 60) as sent:
        stream = io.BufferedReader(socket.SocketIO(sent, "r"))
        for _ in range(200):
            sent.sendall(request)
            assert stream.readline().startswith(b"HTTP/1.1 429 ")
            while stream.readline() != b"\r\n":
                pass
            stream.read1(65536)
    assert len(server.service.scheduler._jobs) == 5
    gate.open()
    for job in jobs:
        server.ended(job)


def _watching(server: Running, job_id: str) -> socket.socket:
    sent = socket.create_connection(("127.0.0.1", server.port), 60)
    sent.sendall(f"GET /x2i/v1/jobs/{job_id}/events HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    return sent


def test_many_check_their_prompts_at_once(server: Running, gate: Gate) -> None:
    """Tokenizers are read by several threads."""
    gate.close()
    found: list[int] = []

    def ask() -> None:
        found.extend(
            server.post("/x2i/v1/jobs", {"prompt": f"a {'word ' * 500}", "options": QUICK}).status for _ in range(10)
        )

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gate.open()
    assert sorted(found) == [202] * 5 + [429] * 75
    wait_until(lambda: not server.service.scheduler.running)
