"""AUTOMATIC1111's interface, as its clients use it."""

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from x2i.runtime.samplers.registry import SAMPLERS
from x2i.runtime.server.api.automatic1111 import SAMPLER_NAMES

from tests.runtime.server.running import Gate, Running, opened, picture, running, wait_until

pytestmark = pytest.mark.filterwarnings("ignore")
QUICK: dict[str, Any] = {"prompt": "red apple", "steps": 4, "width": 72, "height": 48, "language": "French"}
"""What a client sends, and the language, which the bundle needs and no client of this interface knows."""


@pytest.fixture(scope="module")
def elite(elite_bundle: Path, tiny_bundle: Path) -> Iterator[Running]:
    with running(elite_bundle, tiny_bundle) as server:
        yield server


def test_every_sampler_has_a_name() -> None:
    assert set(SAMPLER_NAMES.values()) <= set(SAMPLERS)


def test_what_clients_look_for(server: Running, tiny_bundle: Path) -> None:
    (model,) = server.get("/sdapi/v1/sd-models").json
    assert model["title"] == model["model_name"] == tiny_bundle.name
    assert server.get("/sdapi/v1/options").json == {"sd_model_checkpoint": tiny_bundle.name}
    assert {each["name"] for each in server.get("/sdapi/v1/samplers").json} == set(SAMPLER_NAMES)
    progress = server.get("/sdapi/v1/progress").json
    assert progress["progress"] == 0.0 and progress["state"]["job_count"] == 0 and progress["current_image"] is None


def test_pictures_of_a_prompt(server: Running) -> None:
    body = {
        **QUICK,
        "seed": 7,
        "batch_size": 2,
        "cfg_scale": 1,
        "negative_prompt": "",
        "sampler_name": "DPM++ 2M Karras",
    }
    answer = server.post("/sdapi/v1/txt2img", {**body, "styles": ["a"], "restore_faces": True, "eta": None})
    assert answer.status == 200
    info = json.loads(answer.json["info"])
    pictures = [opened(base64.b64decode(each)) for each in answer.json["images"]]
    assert [each.size for each in pictures] == [(72, 48)] * 2 and pictures[0].tobytes() != pictures[1].tobytes()
    assert (info["seed"], info["all_seeds"], info["steps"]) == (7, [7, 8], 4)
    assert [line.split(":")[0] for line in info["warnings"]] == ["styles", "restore_faces"]
    assert answer.json["parameters"]["prompt"] == "red apple"
    ours = {"seed": 7, "count": 2, "guidance": 1, "sampler": "dpmpp_2m", "sigmas": "karras"}
    job = server.submit("red apple", steps=4, size=[48, 72], language="French", **ours)
    assert [each.tobytes() for each in server.pictures(job)] == [each.tobytes() for each in pictures]


def test_a_seed_of_its_own(server: Running) -> None:
    seeds = set()
    for seed in (-1, None, -1):
        answer = server.post("/sdapi/v1/txt2img", {**QUICK, "seed": seed, "send_images": False})
        assert answer.json["images"] == []
        seeds.add(json.loads(answer.json["info"])["seed"])
    assert len(seeds) == 3


def test_a_picture_from_a_subject_and_another_bundle(elite: Running, tiny_bundle: Path, elite_bundle: Path) -> None:
    image, mask = (base64.b64encode(picture(mode=mode)).decode() for mode in ("RGB", "L"))
    body = {"prompt": "S", "steps": 2, "width": 64, "height": 64, "seed": 1}
    answer = elite.post("/sdapi/v1/img2img", {**body, "init_images": [f"data:image/png;base64,{image}"], "mask": mask})
    assert answer.status == 200 and "init_images" not in answer.json["parameters"]
    job = elite.submit("S", subject=image, mask=mask, steps=2, size=[64, 64], seed=1)
    assert opened(base64.b64decode(answer.json["images"][0])).tobytes() == elite.pictures(job)[0].tobytes()
    named = {"override_settings": {"sd_model_checkpoint": tiny_bundle.name}}
    assert elite.post("/sdapi/v1/txt2img", {**QUICK, **named}).status == 200
    assert elite.post("/sdapi/v1/options", {"sd_model_checkpoint": tiny_bundle.name}).json == {}
    assert elite.post("/sdapi/v1/txt2img", QUICK).status == 200
    assert elite.post("/sdapi/v1/options", {"sd_model_checkpoint": "none"}).status == 404
    elite.post("/sdapi/v1/options", {"sd_model_checkpoint": elite_bundle.name})


def test_progress_and_interrupt(server: Running, gate: Gate) -> None:
    gate.close()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(
            server.post, "/sdapi/v1/txt2img", {**QUICK, "steps": 40, "sampler_name": "Euler", "cfg_scale": 1}
        )
        gate.let(20)
        wait_until(lambda: server.service.scheduler.running and server.service.scheduler.running[0].step == 20)
        wait_until(lambda: server.get("/sdapi/v1/progress").json["current_image"])
        progress = server.get("/sdapi/v1/progress").json
        assert progress["progress"] == 0.5 and progress["state"]["sampling_steps"] == 40
        assert opened(base64.b64decode(progress["current_image"])).size == (72, 48)
        assert server.get("/sdapi/v1/progress?skip_current_image=true").json["current_image"] is None
        assert server.post("/sdapi/v1/interrupt", b"").json == {}
        gate.open()
        found = answer.result()
    assert found.status == 200 and found.json["images"] == [] and gate.calls <= 21


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"seed": [1]}, "seed"),
        ({"batch_size": 0}, "batch_size"),
        ({"n_iter": "2"}, "batch_size"),
        ({"batch_size": 6, "n_iter": 6}, "count"),
        ({"width": 65}, "size"),
        ({"width": "64"}, "size"),
        ({"sampler_name": "none"}, "sampler_name"),
        ({"sampler_name": ["Euler"]}, "sampler_name"),
        ({"scheduler": "none", "sampler_name": "Euler"}, "sampler_name"),
        ({"init_images": 5}, "init_images"),
        ({"init_images": {"a": 1}}, "init_images"),
        ({"init_images": ["/etc/passwd"]}, "start"),
        ({"prompt": ["red"]}, "prompt"),
        ({"override_settings": {"sd_model_checkpoint": 5}}, "model"),
    ],
)
def test_bad_input(server: Running, more: dict[str, Any], param: str) -> None:
    answer = server.post("/sdapi/v1/txt2img", {**QUICK, **more})
    assert answer.status == (404 if param == "model" else 400) and answer.error["param"] == param, answer.data


def test_a_picture_is_needed(server: Running) -> None:
    assert server.post("/sdapi/v1/img2img", QUICK).error["param"] == "init_images"


def test_a_start_and_a_mask_of_a_bundle_that_reads_no_other_picture(server: Running) -> None:
    """Where no reference is read, the picture is redrawn, or filled where the mask is white."""
    coded = base64.b64encode(picture(size=(72, 48))).decode()
    body = QUICK | {"seed": 4, "init_images": [coded], "denoising_strength": 0.5}
    sent = server.post("/sdapi/v1/img2img", body)
    assert sent.status == 200, sent.json
    drawn = sent.json["images"][0]
    other = server.post("/sdapi/v1/img2img", body | {"denoising_strength": 1.0}).json["images"][0]
    plain = server.post("/sdapi/v1/txt2img", QUICK | {"seed": 4}).json["images"][0]
    filled = server.post("/sdapi/v1/img2img", body | {"mask": coded}).json["images"][0]
    assert len({drawn, other, plain, filled}) == 4
