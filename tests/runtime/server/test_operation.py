"""What keeps a server running: health, metrics, its log, its key, TLS, and its end."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from x2i.runtime.server.access import KeyCheck
from x2i.runtime.server.models.bundles import ServedBundles

from tests.runtime.server.running import Gate, Running, running, untrusting, wait_until

pytestmark = pytest.mark.filterwarnings("ignore")
QUICK: dict[str, Any] = {"language": "French", "steps": 3, "size": [64, 64], "sampler": "euler"}
SERVE = (sys.executable, "-c", "import sys; from x2i.runtime.cli import main; sys.argv[0] = 'x2i'; main()", "serve")


@pytest.fixture(scope="module")
def guarded(tiny_bundle: Path) -> Iterator[Running]:
    """With a key, and a page of another that may call."""
    with running(tiny_bundle, key="secret", origins=("https://example.org",)) as server:
        yield server


def metrics(server: Running) -> dict[tuple[str, ...], float]:
    """Every sample by its name and its labels' values."""
    families = list(text_string_to_metric_families(server.get("/metrics").data.decode()))
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


def test_it_answers_while_it_opens(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opens, may_open = ServedBundles.open_first, threading.Event()
    monkeypatch.setattr(ServedBundles, "open_first", lambda bundles: may_open.wait(60) and opens(bundles))
    with running(tiny_bundle, ready=False) as server:
        ready = server.get("/health/ready")
        assert (ready.status, ready.json) == (503, {"status": "not ready"})
        assert server.get("/health/live").status == 200
        job = server.submit("red", **QUICK)
        assert job.state == "queued"
        may_open.set()
        assert server.ended(job)["state"] == "done"
        assert server.get("/health/ready").json == {"status": "ready"}


def test_metrics_count(server: Running, gate: Gate) -> None:
    before = metrics(server)
    bundle = server.bundle().name
    server.ended(server.submit("a picture to count", **QUICK, count=2))
    gate.close()
    drawn, waiting = server.submit("red", **QUICK), server.submit("red", **QUICK)
    assert metrics(server)["x2i_queue_jobs",] == metrics(server)["x2i_running_jobs",] == 1.0
    server.post(f"/x2i/v1/jobs/{waiting.id}/cancel", b"")
    gate.open()
    server.ended(drawn)
    assert server.post("/x2i/v1/jobs", {"prompt": 5}).status == 400
    after = metrics(server)
    changes = {name: after[name] - before.get(name, 0.0) for name in after}
    assert changes["x2i_jobs_total", bundle, "done"] == 2 and changes["x2i_jobs_total", bundle, "cancelled"] == 1
    assert changes["x2i_pictures_total", bundle] == 3 and changes["x2i_step_seconds_count", bundle] == 6
    assert changes["x2i_refusals_total", "bad_input"] == 1 and changes["x2i_waiting_seconds_count",] == 2
    assert after["x2i_memory_bytes",] > 10**7


def test_the_access_log_has_no_prompts(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "x2i.access"):
        server.ended(server.submit("a private prompt", **QUICK))
        server.get("/v1/models?prompt=private")
        server.get("/none")
        wait_until(lambda: len(caplog.messages) >= 4)
    lines = list(map(json.loads, caplog.messages))
    assert set(lines[0]) == {"time", "client", "method", "path", "status", "bytes", "seconds"}
    assert [(line["method"], line["status"]) for line in lines][-2:] == [("GET", 200), ("GET", 404)]
    assert "private" not in " ".join(caplog.messages)


def test_prompts_are_logged_where_that_is_asked_for(tiny_bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "x2i.access"), running(tiny_bundle, log_prompts=True) as server:
        server.submit("a public prompt", **QUICK)
        wait_until(lambda: caplog.messages)
    assert json.loads(caplog.messages[0])["prompt"] == "a public prompt"


@pytest.mark.parametrize(
    "sent", ["", "secret", "Bearer", "Bearer ", "Bearer wrong", "Bearer secrets", "Basic secret", "Bearer \xff" * 99]
)
def test_a_wrong_key_is_refused(guarded: Running, sent: str) -> None:
    for path in ("/v1/models", "/x2i/v1/capabilities", "/sdapi/v1/options", "/metrics", "/openapi.json", "/none"):
        answer = guarded.get(path, **({"Authorization": sent} if sent else {}))
        assert answer.status == 401 and answer.error["type"] == "authentication_error", path
        assert answer.headers["www-authenticate"] == "Bearer" and b"secret" not in answer.data.replace(b"server", b"")


def test_the_right_key_and_what_needs_none(guarded: Running) -> None:
    for scheme in ("Bearer", "bearer"):
        assert guarded.get("/v1/models", Authorization=f"{scheme} secret").status == 200
    for path in ("/health/live", "/health/ready"):
        assert guarded.get(path).status == 200
    page = guarded.get("/")
    assert page.status == 200 and "default-src 'none'" in page.headers["content-security-policy"]
    body = {"prompt": "red", "options": QUICK}
    job = guarded.service.scheduler.find(guarded.post("/x2i/v1/jobs", body, Authorization="Bearer secret").json["id"])
    wait_until(job.ended.is_set)
    # Its name cannot be guessed.
    assert guarded.get(f"/x2i/v1/results/{job.id}/picture-1.png").status == 200
    assert guarded.get(f"/x2i/v1/jobs/{job.id}").status == 401


def test_a_key_is_compared_in_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is sent, two digests of one length are compared, once and whole."""
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr("x2i.runtime.server.access.hmac.compare_digest", compare)
    check = KeyCheck(lambda *_: None, "secret")  # type: ignore[arg-type, return-value]
    for sent in (None, b"", b"Bearer", b"Basic secret", b"Bearer s", b"Bearer secret", b"Bearer " + b"s" * 9999):
        headers = [] if sent is None else [(b"authorization", sent)]
        scope = {"type": "http", "method": "GET", "path": "/v1/models", "headers": headers}
        assert check._may(scope) == (sent == b"Bearer secret")
    assert compared == [(32, 32)] * 7


def test_pages_of_others(server: Running, guarded: Running) -> None:
    asked = {"Origin": "https://example.org", "Access_Control_Request_Method": "POST"}
    assert "access-control-allow-origin" not in server.get("/v1/models", Origin="https://example.org").headers
    assert server.ask("OPTIONS", "/v1/models", **asked).status == 405
    assert guarded.ask("OPTIONS", "/v1/models", **asked).headers["access-control-allow-origin"] == asked["Origin"]
    other = guarded.get("/v1/models", Origin="https://example.com", Authorization="Bearer secret")
    assert "access-control-allow-origin" not in other.headers


def test_https(tiny_bundle: Path, tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    words = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    subprocess.run([*words, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    with running(tiny_bundle, tls=(certificate, key)) as server:
        connection = HTTPSConnection("127.0.0.1", server.port, context=untrusting())
        body = json.dumps({"prompt": "red", **QUICK, "size": "64x64", "response_format": "url"})
        connection.request("POST", "/v1/images/generations", body, {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        assert answer["data"][0]["url"].startswith(f"https://127.0.0.1:{server.port}/x2i/v1/results/")
        connection.close()
        assert b"HTTP/1.1 200" not in server.raw(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")


@contextmanager
def process(*words: object) -> Iterator[tuple[subprocess.Popen[str], Running]]:
    """`x2i serve` in a process of its own, and what asks it."""
    environment = os.environ | {"X2I_BACKEND": "cpu", "OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = subprocess.Popen([*SERVE, *map(str, words), "--port", "0"], env=environment, **pipes)
    try:
        assert started.stderr is not None
        line = started.stderr.readline()
        yield started, Running(None, int(line.rpartition(":")[2]))  # type: ignore[arg-type]
    finally:
        started.kill()
        started.communicate()


def test_a_signal_lets_jobs_end(tiny_bundle: Path) -> None:
    with process(tiny_bundle, "--threads", 1) as (started, server):
        body = {"prompt": "a private prompt", "options": {**QUICK, "steps": 150, "guidance": 2.0}}
        job = server.post("/x2i/v1/jobs", body).json["id"]
        address = f"/x2i/v1/jobs/{job}"
        wait_until(lambda: server.get(address).json["step"])
        started.send_signal(signal.SIGTERM)
        wait_until(lambda: server.get("/health/ready").status == 503)
        refused = server.post("/x2i/v1/jobs", {"prompt": "red", "options": QUICK})
        assert refused.status == 503 and refused.error["code"] == "stopping" and refused.headers["retry-after"]
        assert server.get(address).json["state"] == "running"
        wait_until(lambda: server.get(address).json["state"] == "done")
        assert server.get(server.get(address).json["result"]["pictures"][0]["url"]).status == 200
        out, said = started.communicate(timeout=60)
        assert started.returncode == 0 and "private" not in out + said
        assert all(json.loads(line)["status"] in (200, 202, 503) for line in out.splitlines())


def test_what_does_not_end_in_time_is_told(tiny_bundle: Path) -> None:
    with process(tiny_bundle, "--threads", 1, "--drain", 0) as (started, server):
        options = {**QUICK, "steps": 1000, "size": [256, 256]}
        job = server.post("/x2i/v1/jobs", {"prompt": "red", "options": options}).json["id"]
        wait_until(lambda: server.get(f"/x2i/v1/jobs/{job}").json["step"])
        with server.opened("GET", f"/x2i/v1/jobs/{job}/events") as answer:
            started.send_signal(signal.SIGTERM)
            last = answer.read().decode().strip().rpartition("data: ")[2]
        assert json.loads(last)["error"]["code"] == "stopping"
        assert started.wait(60) == 0


def said(*words: object) -> str:
    ran = subprocess.run([*SERVE, *map(str, words)], capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 2 and "Traceback" not in ran.stderr, ran.stderr
    lines = [line for line in ran.stderr.splitlines() if "listening" not in line]
    assert len(lines) == 1 and not ran.stdout
    return lines[0]


def test_what_cannot_be_served_is_one_line(server: Running, tiny_bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / tiny_bundle.name
    shutil.copytree(tiny_bundle, copy)
    assert "port that is free" in said(tiny_bundle, "--port", server.port)
    assert "twice; rename" in said(tiny_bundle, copy)
    assert "expected a bundle folder" in said(tmp_path)
    assert "backend rtx" in said(tiny_bundle, "--port", 0, "--backend", "rtx")
    assert "expected a certificate" in said(tiny_bundle, "--port", 0, "--tls-cert", copy, "--tls-key", copy)
    os.mkfifo(tmp_path / "pipe")
    both = ("--tls-cert", tmp_path / "pipe", "--tls-key", tmp_path / "pipe")
    assert "expected a certificate in PEM, got a folder or a device" in said(tiny_bundle, "--port", 0, *both)
    for host in ("ü" * 70, "\u202eabc", "x" * 300):
        assert "expected an address of this machine" in said(tiny_bundle, "--host", host)
    assert "expected both or none" in said(tiny_bundle, "--tls-cert", copy)
    assert "max_body: expected a size" in said(tiny_bundle, "--max-body", "much")
    hidden = "import sys; sys.modules['uvicorn'] = None; from x2i.runtime.cli import main; main()"
    words = [sys.executable, "-c", hidden, "serve", str(tiny_bundle)]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 2 and ran.stderr.count("\n") == 1 and "x2i-edge[server]" in ran.stderr
