"""No path and no address from a request is opened."""

import base64
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from x2i.runtime.inputs.registry import run_options

from tests.runtime.server.running import Running, form, picture, running

SEEN: list[tuple[str, Any]] = []
"""(event, its first argument) since a test began to look."""
LOOKING = [False]


@sys.addaudithook
def _look(event: str, arguments: tuple[Any, ...]) -> None:
    if LOOKING[0] and event in ("open", "socket.connect", "socket.getaddrinfo", "urllib.Request", "subprocess.Popen"):
        SEEN.append((event, arguments[1] if event == "socket.connect" else arguments[0]))


@pytest.fixture
def looking(elite: Running) -> Iterator[None]:
    """Fails where the server opened something that is not its own, or connected to anything but what asks it."""
    SEEN.clear()
    LOOKING[0] = True
    yield
    LOOKING[0] = False
    # Python's own files are those of its libraries, and our version.
    own = (elite.service._uploads.name, *filter(None, sys.path))
    wrong = [
        each
        for each in SEEN
        if not (each[0] == "socket.connect" and each[1][1] == elite.port)
        and not (each[0] == "open" and (not isinstance(each[1], str | Path) or str(each[1]).startswith(own)))
        and not (each[0] == "socket.getaddrinfo" and each[1] == "127.0.0.1")
    ]
    assert not wrong


@pytest.fixture(scope="module")
def elite(elite_bundle: Path) -> Iterator[Running]:
    with running(elite_bundle) as server:
        # What is opened late, such as a library, is open now.
        body = {"subject": base64.b64encode(picture()).decode(), "steps": 1, "size": [64, 64]}
        server.ended(server.submit("S", **body))
        server.get("/openapi.json")
        # FastAPI reads a handler's source when it is first asked.
        for path in ("/v1/images/generations", "/v1/images/edits", "/sdapi/v1/txt2img", "/sdapi/v1/img2img"):
            server.post(path, {})
        yield server


FILES = [name for name, option in run_options().items() if option.is_file]
PLACES = [
    "/etc/passwd",
    "../../etc/passwd",
    "file:///etc/passwd",
    "http://127.0.0.1:1/a.png",
    "https://example.org/a.png",
    "//example.org/a.png",
    "C:\\a.png",
    "data:image/png,/etc/passwd",
    "data:/etc/passwd",
    "etc/passwd\0.png",
]


@pytest.mark.parametrize("place", PLACES)
def test_names_of_files_and_addresses_are_refused(elite: Running, looking: None, place: str) -> None:
    for name in FILES:
        for value in (place, [place]):
            native = elite.post("/x2i/v1/jobs", {"prompt": "S", "options": {name: value}})
            openai = elite.post("/v1/images/generations", {"prompt": "S", name: value})
            assert (native.status, openai.status) == (400, 400)
            assert any(line.startswith(f"{name}: ") for line in native.error["message"].split("\n")), native.data
    for path in ("txt2img", "img2img"):
        answer = elite.post(f"/sdapi/v1/{path}", {"prompt": "S", "init_images": [place], "mask": place})
        assert answer.status == 400
    body, kind = form({"prompt": "S", "image": place, "mask": place}, [])
    assert elite.post("/v1/images/edits", body, Content_Type=kind).status == 400
    body, kind = form({"request": '{"prompt": "S"}'}, [("subject", place.encode())])
    assert elite.post("/x2i/v1/jobs", body, Content_Type=kind).status == 400
    # Names of bundles are no paths either.
    assert elite.post("/x2i/v1/jobs", {"prompt": "S", "bundle": place}).status == 404
    assert elite.post("/sdapi/v1/options", {"sd_model_checkpoint": place}).status == 404
    assert not list(Path(elite.service._uploads.name).iterdir())


def test_names_of_uploads_are_not_used(elite: Running, looking: None) -> None:
    edge = b'--edge\r\nContent-Disposition: form-data; name="subject"; filename="../../../tmp/x2i-evil.png"\r\n\r\n'
    head = b'--edge\r\nContent-Disposition: form-data; name="request"\r\n\r\n'
    text = b'{"prompt": "S", "options": {"steps": 1, "size": [64, 64]}}'
    body = head + text + b"\r\n" + edge + picture() + b"\r\n--edge--\r\n"
    answer = elite.post("/x2i/v1/jobs", body, Content_Type="multipart/form-data; boundary=edge")
    assert answer.status == 202
    elite.ended(elite.service.scheduler.find(answer.json["id"]))
    assert not Path("/tmp/x2i-evil.png").exists()
    assert not list(Path(elite.service._uploads.name).iterdir()), "uploads of a job that has ended"


@pytest.mark.parametrize(
    "name", ["..%2f..%2fetc%2fpasswd", "%00", "picture-1.png%2f..%2fpicture-1.png", "manifest.json"]
)
def test_results_are_no_files(elite: Running, looking: None, name: str) -> None:
    job = elite.submit("S", subject=base64.b64encode(picture()).decode(), steps=1, size=[64, 64])
    elite.ended(job)
    assert elite.get(f"/x2i/v1/results/{job.id}/{name}").status == 404
    assert elite.get(f"/v1/models/{name}").status == 404
