"""`x2i serve --replicas 2`: a cluster of this machine, as a user starts it."""

import base64
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import psutil
import pytest
import x2i.runtime
from PIL import Image

pytest.importorskip("ray", reason="the extra `ray` is not installed")
SHORT, LONG = 8, 100
"""Steps; the long ones take seconds."""
WORDS = {"prompt": "ein roter Apfel", "language": "German", "seed": 7}
READY_SECONDS, GONE_SECONDS = 120, 30
LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")


def _pixels() -> str:
    stream = io.BytesIO()
    Image.new("RGB", (40, 24), "orange").save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


REDRAWN = {
    "prompt": "a pear",
    "steps": SHORT,
    "init_images": [_pixels()],
    "override_settings": {"sd_model_checkpoint": "b"},
}
"""A request of AUTOMATIC1111's clients for bundle `b`, which draws from pictures."""


@dataclass(frozen=True)
class Server:
    """The command's process, its address, and what it writes."""

    process: psutil.Process
    address: str
    log: Path

    def ask(self, path: str, body: dict[str, Any] | None = None) -> HTTPResponse | HTTPError:
        data = None if body is None else json.dumps(body).encode()
        request = Request(self.address + path, data, {"Content-Type": "application/json"})
        try:
            return urlopen(request, timeout=READY_SECONDS)
        except HTTPError as error:
            return error

    def ready(self) -> bool:
        with self.ask("/health/ready") as answer:
            return answer.status == 200

    def get(self, path: str, body: dict[str, Any] | None = None) -> Any:
        with self.ask(path, body) as answer:
            assert answer.status in (200, 202), answer.read()
            return json.load(answer)

    def picture(self, steps: int, **more: Any) -> bytes:
        answer = self.get("/v1/images/generations", {**WORDS, "steps": steps, **more})
        return base64.b64decode(answer["data"][0]["b64_json"])

    def events(self, path: str, body: dict[str, Any] | None = None) -> Iterator[tuple[str, Any]]:
        with self.ask(path, body) as answer:
            assert answer.status == 200
            name = ""
            for line in answer:
                key, _, rest = line.decode().strip().partition(": ")
                if key == "event":
                    name = rest
                elif key == "data":
                    yield name, json.loads(rest)

    def replicas(self) -> list[psutil.Process]:
        return [each for each in self.process.children(recursive=True) if _title(each).startswith("ray::ServeReplica")]

    def places(self, bundle: str) -> list[tuple[str, int]]:
        """The replicas that began this bundle's jobs, in their order, and their processes."""
        told = self.log.read_text(encoding="utf-8")
        found = re.findall(rf"a job of {bundle} begins: replica (\S+) on \S+, process (\d+), GPUs none", told)
        return [(name, int(process)) for name, process in found]

    def number(self, metric: str) -> float:
        with self.ask("/metrics") as answer:
            text = answer.read().decode()
        found = re.search(rf"^{re.escape(metric)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def wait_until_drawn(self, job_id: str, steps: int) -> None:
        _until(lambda: self.get(f"/x2i/v1/jobs/{job_id}")["step"] >= steps)


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _until(holds: Any, seconds: float = READY_SECONDS) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


def _end(processes: list[psutil.Process]) -> None:
    """Ray's agents outlive whoever started them by most of a minute."""
    for process in processes:
        if process.is_running():
            process.kill()


@pytest.fixture(scope="module")
def bundles(embedded_bundle: Path, ip_adapter_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two, under names of their own."""
    folder = tmp_path_factory.mktemp("bundles")
    return [
        Path(shutil.copytree(each, folder / name)) for name, each in (("a", embedded_bundle), ("b", ip_adapter_bundle))
    ]


@pytest.fixture(scope="module")
def live(bundles: list[Path]) -> Iterator[Callable[[], Server]]:
    """The server that runs: one for all tests but the one that ends it, whichever order a worker has them in."""
    with ExitStack() as stack:
        started: list[Server] = []

        def found() -> Server:
            if not started or not started[-1].process.is_running():
                # A socket's path has at most 107 bytes, and Ray's are long.
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="x2i-", dir="/tmp"))
                started.append(stack.enter_context(_served(bundles, Path(folder))))
            return started[-1]

        yield found


@pytest.fixture
def server(live: Callable[[], Server]) -> Server:
    return live()


@contextmanager
def _served(bundles: list[Path], folder: Path) -> Iterator[Server]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"RAY_TMPDIR": str(folder), "HOME": str(folder), "X2I_BACKEND": "cpu"}
    words = [*bundles, "--replicas", "2", "--threads", "1", "--open", "1", "--queue", "1", "--port", "0"]
    log = folder / "log"
    with log.open("w") as stream:
        command = [str(Path(sys.executable).with_name("x2i")), "serve", *map(str, words)]
        process = psutil.Popen(command, env=environment, stdout=stream, stderr=subprocess.STDOUT)
    started = [process]
    try:
        said = "listening at "
        _until(lambda: said in log.read_text(encoding="utf-8") or process.poll() is not None)
        assert process.poll() is None, log.read_text(encoding="utf-8")
        server = Server(process, log.read_text(encoding="utf-8").partition(said)[2].split()[0], log)
        _until(lambda: process.poll() is not None or server.ready())
        assert process.poll() is None, log.read_text(encoding="utf-8")
        started += process.children(recursive=True)
        yield server
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(GONE_SECONDS)
    finally:
        if process.is_running():
            started += process.children(recursive=True)
        _end(started)


@pytest.fixture(scope="module")
def undisturbed(live: Callable[[], Server]) -> bytes:
    """The picture of LONG steps."""
    return live().picture(LONG)


def test_the_picture_is_that_of_a_run(server: Server, bundles: list[Path]) -> None:
    pipeline = x2i.runtime.load(bundles[0], backend="cpu", threads=1)
    drawn = pipeline(WORDS["prompt"], language="German", seed=7, steps=SHORT).images[0]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(server.picture(SHORT)))), np.asarray(drawn))


def test_openais_client_draws_and_streams(server: Server) -> None:
    openai = pytest.importorskip("openai", reason="openai is not installed")
    client = openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0)
    words = {"model": "a", "prompt": WORDS["prompt"], "extra_body": {"language": "German", "seed": 7, "steps": SHORT}}
    whole = client.images.generate(**words).data[0].b64_json
    assert base64.b64decode(whole) == server.picture(SHORT)
    came = list(client.images.generate(**words, stream=True, partial_images=2))
    assert [event.type.partition(".")[2] for event in came] == ["partial_image", "partial_image", "completed"]
    assert came[-1].b64_json == whole


def test_a_job_and_a_stream_survive_the_death_of_both_replicas(server: Server, undisturbed: bytes) -> None:
    options = {"language": "German", "seed": 7, "steps": LONG}
    job = server.get("/x2i/v1/jobs", {"bundle": "a", "prompt": WORDS["prompt"], "options": options})
    stream = server.events("/v1/images/generations", {**WORDS, "steps": LONG, "stream": True, "partial_images": 3})
    # It comes long before the end.
    came = [next(stream)]
    server.wait_until_drawn(job["id"], 5)
    assert server.get(f"/x2i/v1/jobs/{job['id']}")["state"] == "running"
    for replica in server.replicas():
        replica.kill()
    came += stream
    assert [name.partition(".")[2] for name, _ in came] == ["partial_image"] * 3 + ["completed"]
    assert [data["partial_image_index"] for _, data in came[:3]] == [0, 1, 2]
    assert base64.b64decode(came[-1][1]["b64_json"]) == undisturbed
    events = list(server.events(f"/x2i/v1/jobs/{job['id']}/events"))
    assert events[-1][1]["state"] == "done"
    with server.ask(events[-1][1]["result"]["pictures"][0]["url"]) as answer:
        assert answer.read() == undisturbed


def test_a_request_survives_the_death_of_its_replica_with_the_seed_that_was_chosen_for_it(server: Server) -> None:
    """AUTOMATIC1111's seed of -1 is a random one. The picture that came with it goes to the other replica, too."""
    body = {**REDRAWN, "seed": -1, "steps": 200}
    with ThreadPoolExecutor() as pool:
        before = len(server.places("b"))
        answer = pool.submit(server.get, "/sdapi/v1/img2img", body)
        _until(lambda: answer.done() or server.get("/sdapi/v1/progress")["state"]["sampling_step"] > 3)
        assert not answer.done(), answer.result()
        (first,) = server.places("b")[before:]
        psutil.Process(first[1]).kill()
        drawn = answer.result()
    assert first not in server.places("b")[before + 1 :]
    assert len(server.places("b")) == before + 2
    again = server.get("/sdapi/v1/img2img", body | {"seed": json.loads(drawn["info"])["seed"]})
    assert again["images"] == drawn["images"]


def test_a_bundle_is_drawn_where_it_is_open(server: Server) -> None:
    def draw(bundle: str) -> tuple[str, int]:
        if bundle == "a":
            server.picture(SHORT)
        else:
            server.get("/sdapi/v1/img2img", REDRAWN)
        return server.places(bundle)[-1]

    # Replicas tell each second which bundles they have open.
    _until(lambda: draw("a") != draw("b"))
    time.sleep(2)
    first = draw("a"), draw("b")
    assert [(draw("a"), draw("b")) for _ in range(3)] == [first] * 3


def test_a_full_queue_is_told_in_the_interfaces_own_words(server: Server) -> None:
    body = {"bundle": "a", "prompt": WORDS["prompt"], "options": {"language": "German", "steps": LONG}}
    jobs = [server.get("/x2i/v1/jobs", body)["id"] for _ in range(3)]
    with server.ask("/v1/images/generations", {**WORDS, "steps": SHORT}) as answer:
        assert answer.status == 429 and int(answer.headers["Retry-After"]) >= 1
        assert json.load(answer)["error"]["code"] == "queue_full"
    server.wait_until_drawn(jobs[0], 1)
    for job in reversed(jobs):
        server.get(f"/x2i/v1/jobs/{job}/cancel", {})
    # The replicas stop, too: else this would wait for hundreds of steps.
    begun = time.monotonic()
    server.picture(SHORT)
    assert all(server.get(f"/x2i/v1/jobs/{job}")["state"] == "cancelled" for job in jobs)
    assert time.monotonic() - begun < GONE_SECONDS


def test_bad_input_is_told_with_its_field(server: Server) -> None:
    for body, status, field in (({**WORDS, "steps": -1}, 400, "steps"), ({**WORDS, "model": "c"}, 404, "model")):
        with server.ask("/v1/images/generations", body) as answer:
            assert answer.status == status
            assert json.load(answer)["error"]["param"] == field


def test_health_and_what_the_replicas_counted(server: Server) -> None:
    assert server.get("/health/ready") == {"status": "ready"}
    calls, pictures = 'x2i_network_calls_total{bundle="a",jobs="1"}', 'x2i_pictures_total{bundle="a"}'
    before = server.number(calls), server.number(pictures)
    server.picture(SHORT)
    assert server.number(pictures) == before[1] + 1
    assert server.number(calls) > before[0]


def test_nothing_listens_beyond_the_loopback(server: Server) -> None:
    processes = [server.process, *server.process.children(recursive=True)]
    listening = {
        (_title(process).split()[0], found.laddr.ip)
        for process in processes
        for found in process.net_connections("inet")
        if found.status == psutil.CONN_LISTEN
    }
    assert len(listening) > 3
    assert {(name, host) for name, host in listening if host not in LOOPBACK} == set()


def test_a_server_that_ends_draws_what_it_has_begun_and_leaves_nothing(server: Server, undisturbed: bytes) -> None:
    stream = server.events("/v1/images/generations", {**WORDS, "steps": LONG, "stream": True, "partial_images": 1})
    came = [next(stream)]
    children = server.process.children(recursive=True)
    server.process.send_signal(signal.SIGTERM)
    came += stream
    assert base64.b64decode(came[-1][1]["b64_json"]) == undisturbed
    server.process.wait(GONE_SECONDS)
    _, left = psutil.wait_procs(children, GONE_SECONDS)
    assert left == []
