"""Jobs: their states and events, how they are cancelled, and the queue that they wait in."""

import base64
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from x2i.runtime.memory_limit import PROCESS_BYTES
from x2i.runtime.server.jobs.job import Job

from tests.runtime.server.running import Event, Gate, Running, events, opened, picture, running, wait_until

pytestmark = pytest.mark.filterwarnings("ignore:mask")
QUICK = {"language": "French", "steps": 3, "size": [64, 64], "guidance": 1.0, "sampler": "euler"}


def ask(server: Running, **more: object) -> Job:
    return server.submit("red apple", **{**QUICK, **more})


def heard(server: Running, job_id: str) -> Iterator[Event]:
    with server.opened("GET", f"/x2i/v1/jobs/{job_id}/events") as response:
        assert response.getheader("Content-Type") == "text/event-stream; charset=utf-8"
        yield from events(response)


def test_a_job_from_its_place_in_the_queue_to_its_picture(server: Running, gate: Gate) -> None:
    gate.close()
    first, second = ask(server), ask(server)
    third = ask(server, steps=5, seed=1)
    assert server.get(f"/x2i/v1/jobs/{third.id}").json["position"] == 1
    told = heard(server, third.id)
    assert (begin := next(told)).name == "job" and begin.data["position"] == 1 and begin.data["state"] == "queued"
    gate.open()
    later = list(told)
    states = [event.data["state"] for event in later if event.name == "job"]
    assert states[-2:] == ["running", "done"] and set(states[:-2]) == {"queued"}
    assert 0 in [event.data["position"] for event in later if event.name == "job"]
    assert [event.data["step"] for event in later if event.name == "step"] == [1, 2, 3, 4, 5]
    result = later[-1].data["result"]
    (found,) = result["pictures"]
    assert (found["width"], found["height"]) == (64, 64) and result["expires"] > third.created
    answer = server.get(found["url"] + "?download=%0d%0aX:1")
    assert opened(answer.data).size == (64, 64)
    assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["content-type"] == "image/png"
    assert answer.headers["content-disposition"] == f'attachment; filename="{third.id[:8]}-picture-1.png"'
    assert server.ended(first)["state"] == server.ended(second)["state"] == "done"
    # Whoever comes late sees the last state, and the end.
    assert [(event.name, event.data["state"]) for event in heard(server, third.id)] == [("job", "done")]


def test_previews_on_the_way(server: Running) -> None:
    job = server.submit("red", 2, **{**QUICK, "steps": 6})
    shown = [event.data for event in heard(server, job.id) if event.name == "preview"]
    # A job that begins at once may be past its first preview before anyone watches.
    assert shown and shown[-1]["step"] == 4
    (data,) = shown[-1]["pictures"]
    assert opened(base64.b64decode(data.partition(",")[2])).size == (64, 64)
    assert job.preview is None, "a preview that is kept for nobody"


def test_a_running_job_is_cancelled_within_one_step(server: Running, gate: Gate) -> None:
    gate.close()
    job = ask(server, steps=50)
    told = heard(server, job.id)
    next(told)
    gate.let(2)
    wait_until(lambda: job.step == 2)
    assert server.post(f"/x2i/v1/jobs/{job.id}/cancel", b"").json["state"] == "running"
    gate.open()
    assert server.ended(job)["state"] == "cancelled"
    assert gate.calls <= 3
    assert list(told)[-1].data["state"] == "cancelled"
    assert server.post(f"/x2i/v1/jobs/{job.id}/cancel", b"").json["state"] == "cancelled"


def test_a_waiting_job_is_cancelled_at_once_and_the_others_move_up(server: Running, gate: Gate) -> None:
    gate.close()
    running_job, waiting, last = ask(server), ask(server), ask(server)
    told = heard(server, last.id)
    assert next(told).data["position"] == 1
    assert server.post(f"/x2i/v1/jobs/{waiting.id}/cancel", b"").json["state"] == "cancelled"
    assert next(told).data["position"] == 0
    gate.open()
    assert server.ended(last)["state"] == server.ended(running_job)["state"] == "done"


def test_clients_take_turns(server: Running, gate: Gate) -> None:
    gate.close()
    body = {"prompt": "red", "options": QUICK}
    many = [server.ask("POST", "/x2i/v1/jobs", body).json["id"] for _ in range(4)]
    other = server.ask("POST", "/x2i/v1/jobs", body, client="127.0.0.2").json
    assert other["position"] == 1
    gate.open()
    jobs = [server.service.scheduler.find(each) for each in (many[0], many[1], other["id"], many[2], many[3])]
    for job in jobs:
        server.ended(job)
    assert sorted(jobs, key=lambda job: job.begun) == jobs


def test_a_full_queue_is_told_at_once(server: Running, gate: Gate) -> None:
    gate.close()
    jobs = [ask(server) for _ in range(5)]
    answer = server.post("/x2i/v1/jobs", {"prompt": "red", "options": QUICK})
    assert answer.status == 429 and answer.error["code"] == "queue_full"
    assert 1 <= int(answer.headers["retry-after"]) <= 120
    assert b'x2i_refusals_total{reason="queue_full"} 1.0' in server.get("/metrics").data
    gate.open()
    assert {server.ended(job)["state"] for job in jobs} == {"done"}


@pytest.mark.parametrize("stream", [False, True])
def test_a_closed_connection_ends_its_job(server: Running, gate: Gate, stream: bool) -> None:
    gate.close()
    body = {"prompt": "red", "stream": stream, "seed": 1, **{**QUICK, "size": "64x64", "steps": 30}}
    with socket.create_connection(("127.0.0.1", server.port)) as sent:
        text = json.dumps(body).encode()
        head = f"POST /v1/images/generations HTTP/1.1\r\nHost: a\r\nContent-Length: {len(text)}\r\n\r\n"
        sent.sendall(head.encode() + text)
        wait_until(lambda: server.service.scheduler.running)
        (job,) = server.service.scheduler.running
        before = gate.calls
    wait_until(job.stop.is_set)
    gate.open()
    wait_until(job.ended.is_set)
    assert job.state == "cancelled" and gate.calls <= before + 1


def test_bad_jobs(server: Running) -> None:
    cases = [
        ({"prompt": "a", "bundle": "none"}, 404, "model"),
        ({"prompt": "a", "more": 1}, 400, "more"),
        ({"prompt": "a", "options": []}, 400, "options"),
        ({"prompt": "a", "options": 1}, 400, "options"),
        ({"prompt": "a", "previews": 101}, 400, "previews"),
        ({"prompt": "a", "previews": True}, 400, "previews"),
        ({"prompt": "a", "options": {**QUICK, "steps": 0}}, 400, "steps"),
        ({"prompt": "a", "options": {**QUICK, "steps": 1001}}, 400, "steps"),
        ({"prompt": "a", "options": {**QUICK, "count": 11}}, 400, "count"),
        ({"prompt": "a", "options": {**QUICK, "noise": "x"}}, 400, "noise"),
        ({"prompt": "a", "options": {**QUICK, "subject": []}}, 400, "subject"),
        ({"prompt": "a", "options": {**QUICK, "size": [8]}}, 400, "size"),
        ({"prompt": 5, "options": QUICK}, 400, "prompt"),
        ({"prompt": "a" * 32_001, "options": QUICK}, 400, "prompt"),
        ({"prompt": "a", "options": {**QUICK, "negative": "a" * 32_001}}, 400, "negative"),
        ({"options": QUICK}, 400, "prompt"),
    ]
    for body, status, param in cases:
        answer = server.post("/x2i/v1/jobs", body)
        assert (answer.status, answer.error["param"]) == (status, param), (body, answer.data)
        assert answer.error["type"] == ("not_found_error" if status == 404 else "invalid_request_error")
    for path in ("jobs/none", "jobs/none/events", "results/none/picture-1.png"):
        assert server.get(f"/x2i/v1/{path}").status == 404
    assert not list(Path(server.service._uploads.name).iterdir()), "files of refused jobs"


def test_an_option_without_a_value_is_left_out(server: Running) -> None:
    assert server.ended(ask(server, seed=None, noise=None))["state"] == "done"


def test_a_job_ends_in_its_time(tiny_bundle: Path) -> None:
    with running(tiny_bundle, seconds=0.3) as server:
        gate = Gate(server.bundle())
        gate.close()
        drawn, waiting = ask(server, steps=50), ask(server)
        assert server.ended(waiting)["error"]["code"] == "timeout"
        wait_until(drawn.stop.is_set)
        gate.open()
        assert server.ended(drawn)["error"]["code"] == "timeout" and gate.calls <= 1
        gate.close()
        drawn = ask(server, steps=50)
        answer = server.post("/v1/images/generations", {"prompt": "red", **QUICK, "size": "64x64"})
        assert answer.status == 504 and answer.headers["x-should-retry"] == "false"
        gate.open()


def test_results_have_a_lifetime_and_a_limit(tiny_bundle: Path) -> None:
    with running(tiny_bundle, keep_bytes=1, keep_seconds=30.0) as server:
        first, second = ask(server), ask(server)
        assert server.ended(second)["state"] == "done"
        # The newest is kept, however large it is.
        assert server.get(f"/x2i/v1/jobs/{first.id}").status == 404
        url = server.ended(second)["result"]["pictures"][0]["url"]
        assert server.get(url).status == 200
        server.service.scheduler.forget(second.id)
        assert server.get(url).status == 404
    with running(tiny_bundle, keep_seconds=0.2) as server:
        job = ask(server)
        wait_until(lambda: server.get(f"/x2i/v1/jobs/{job.id}").status == 404)


def test_bundles_make_room_for_one_another(tiny_bundle: Path, ip_adapter_bundle: Path) -> None:
    with running(tiny_bundle, ip_adapter_bundle, max_memory=10**12) as server:
        needed = max(server.bundle(name).needed_bytes for name in server.service.bundles.names)
    image = base64.b64encode(picture()).decode()
    with running(tiny_bundle, ip_adapter_bundle, max_memory=PROCESS_BYTES + needed) as server:
        text, adapter = map(server.bundle, (tiny_bundle.name, ip_adapter_bundle.name))
        assert text.loaded and not adapter.loaded
        small = {"steps": 2, "size": [64, 64]}
        before = server.pictures(ask(server))
        server.pictures(server.submit("red", bundle=adapter.name, image=image, **small))
        assert adapter.loaded and not text.loaded
        assert server.pictures(ask(server)) == before
        assert text.loaded and not adapter.loaded
        named = {each["name"]: each["loaded"] for each in server.get("/x2i/v1/capabilities").json["bundles"]}
        assert named == {text.name: True, adapter.name: False}


def test_a_subject_is_encoded_once(elite_bundle: Path) -> None:
    with running(elite_bundle) as server:
        bundle, subject = server.bundle(), base64.b64encode(picture()).decode()
        small = {"subject": subject, "steps": 1, "size": [64, 64], "guidance": 1.0}
        first = server.pictures(server.submit("a photo of S", **small))
        made = bundle.encodings.made
        again = server.pictures(server.submit("a photo of S", **small))
        assert again == first and bundle.encodings.made == made and bundle.encodings.found >= made
        server.pictures(server.submit("a photo of S", **{**small, "subject": base64.b64encode(picture(1)).decode()}))
        assert bundle.encodings.made > made
        metrics = server.get("/metrics").data.decode()
        assert f'x2i_encodings_total{{bundle="{bundle.name}",kept="yes"}} {float(bundle.encodings.found)}' in metrics
