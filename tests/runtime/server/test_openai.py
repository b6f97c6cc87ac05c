"""OpenAI's image interface, as OpenAI's own client sees it."""

import base64
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from openai import OpenAI
from PIL import Image

from tests.runtime.server.running import Gate, Running, form, opened, picture, running, wait_until

pytestmark = pytest.mark.filterwarnings("ignore")
QUICK: dict[str, Any] = {"language": "French", "steps": 3, "guidance": 1.0, "sampler": "euler"}


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def several(elite_bundle: Path, fastcomposer_bundle: Path, ip_adapter_bundle: Path) -> Iterator[Running]:
    """Bundles that draw from a subject, from subjects, and from references."""
    with running(elite_bundle, fastcomposer_bundle, ip_adapter_bundle) as server:
        yield server


@pytest.fixture(scope="module")
def editor(several: Running) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{several.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def image_of(answer: Any, number: int = 0) -> Image.Image:
    """A picture without its parameters, which hold the names that were sent."""
    return opened(base64.b64decode(answer.data[number].b64_json), bare=True)


def told(answer: Any) -> dict[str, Any]:
    found: dict[str, Any] = answer.model_extra["x2i"]
    return found


def draw(client: OpenAI, prompt: str = "red apple", **more: Any) -> Any:
    body = QUICK | more.pop("extra_body", {})
    return client.images.generate(prompt=prompt, **{"size": "64x64", **more}, extra_body=body)


def test_models(client: OpenAI, tiny_bundle: Path) -> None:
    (model,) = client.models.list().data
    assert model.id == tiny_bundle.name and model.owned_by == "gluegen-text"
    assert client.models.retrieve(tiny_bundle.name) == model
    with pytest.raises(openai.NotFoundError) as failed:
        client.models.retrieve("none")
    assert failed.value.code == "model_not_found" and failed.value.param == "model"


def test_pictures_in_each_format(client: OpenAI) -> None:
    answer = draw(client, n=2)
    assert len(answer.data) == 2 and answer.size == "64x64" and answer.output_format == "png"
    assert image_of(answer) != image_of(answer, 1)
    assert opened(base64.b64decode(answer.data[0].b64_json)).info["parameters"] and told(answer)["warnings"] == []
    for name in ("jpeg", "webp"):
        other = draw(client, output_format=name, output_compression=30)
        found = Image.open(io.BytesIO(base64.b64decode(other.data[0].b64_json)))
        assert found.format == name.upper() and other.output_format == name
    usual = draw(client, size="auto", extra_body={"steps": 1})
    assert usual.size == "128x128"


def test_the_width_comes_first(client: OpenAI) -> None:
    assert image_of(draw(client, size="72x48")).size == (72, 48)


def test_names_of_other_servers(client: OpenAI) -> None:
    own = draw(client, extra_body={"seed": 7, "negative": "grey", "guidance": 3.0})
    theirs = {"rng_seed": 7, "negative_prompt": "grey", "num_inference_steps": 3, "guidance_scale": 3.0}
    body = {"language": "French", "sampler": "euler", **theirs}
    other = client.images.generate(prompt="red apple", size="64x64", extra_body=body)
    assert image_of(other) == image_of(own)


def test_what_is_not_heeded_is_told(client: OpenAI) -> None:
    answer = draw(client, quality="low", style="vivid", moderation="low", user="me", extra_body={"tiling": True})
    found = " ".join(told(answer)["warnings"])
    assert all(name in found for name in ("quality", "style", "moderation", "tiling")) and "user" not in found


def test_a_result_by_its_address(client: OpenAI, server: Running) -> None:
    answer = draw(client, response_format="url", extra_body={"seed": 3})
    address = answer.data[0].url
    assert address.startswith(server.url)
    fetched = server.get(address.removeprefix(server.url))
    assert opened(fetched.data, bare=True) == image_of(draw(client, extra_body={"seed": 3}))
    server.service.scheduler.forget(told(answer)["id"])
    assert server.get(address.removeprefix(server.url)).status == 404


def test_a_stream_of_partial_pictures(client: OpenAI) -> None:
    with draw(client, stream=True, partial_images=2, extra_body={"steps": 6}) as stream:
        found = list(stream)
    assert [event.type for event in found] == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    assert [event.partial_image_index for event in found[:2]] == [0, 1]
    assert all(opened(base64.b64decode(event.b64_json)).size == (64, 64) for event in found)
    assert opened(base64.b64decode(found[-1].b64_json), bare=True) == image_of(draw(client, extra_body={"steps": 6}))


def test_a_stream_that_fails(client: OpenAI, server: Running, gate: Gate) -> None:
    gate.close()
    with draw(client, stream=True, extra_body={"steps": 30}) as stream:
        wait_until(lambda: server.service.scheduler.running)
        server.service.scheduler.running[0].stop.set()
        gate.open()
        with pytest.raises(openai.APIError, match="cancelled"):
            list(stream)
    # The stream is left once its last event was sent.
    wait_until(lambda: not any(job._watching for job in server.service.scheduler._jobs.values()))


def test_the_body_of_open_webui(elite_bundle: Path) -> None:
    """It sends just these five, and reads b64_json."""
    with running(elite_bundle) as server:
        body = {"model": elite_bundle.name, "prompt": "S", "n": 1, "size": "64x64", "response_format": "b64_json"}
        answer = server.post("/v1/images/generations", body)
        # This bundle wants a subject, and says so.
        assert answer.status == 400 and answer.error["param"] == "subject"
        sent = {**body, "subject": base64.b64encode(picture()).decode(), "steps": 1}
        answer = server.post("/v1/images/generations", sent)
        assert answer.status == 200 and opened(base64.b64decode(answer.json["data"][0]["b64_json"])).size == (64, 64)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 0}, "n"),
        ({"n": 11}, "n"),
        ({"size": "64"}, "size"),
        ({"size": "65x64"}, "size"),
        ({"size": "99999x99999"}, "size"),
        ({"quality": "best"}, "quality"),
        ({"response_format": "file"}, "response_format"),
        ({"output_format": "gif"}, "output_format"),
        ({"output_compression": 101}, "output_compression"),
        ({"partial_images": 4}, "partial_images"),
        ({"background": "transparent"}, "background"),
        ({"user": "a" * 1001}, "user"),
        ({"extra_body": {"seed": -1}}, "seed"),
        ({"extra_body": {"seed": "0"}}, "seed"),
        ({"extra_body": {"language": "Klingon"}}, "language"),
        ({"extra_body": {"sampler": "none"}}, "sampler"),
        ({"extra_body": {"subject": "aGk="}}, "subject"),
        ({"prompt": "a" * 32_001}, "prompt"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_bad_input_is_refused_before_the_first_byte(client: OpenAI, more: dict, param: str, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError) as failed:
        draw(client, **more, **({"stream": True} if stream else {}))
    error = failed.value
    assert error.param == param and error.type == "invalid_request_error" and error.code == "invalid_value"
    assert "Traceback" not in error.message and "/tmp" not in error.message


def test_errors_by_their_classes(server: Running, client: OpenAI, gate: Gate) -> None:
    with pytest.raises(openai.NotFoundError):
        draw(client, model="none")
    with pytest.raises(openai.APIStatusError) as large:
        draw(client, prompt="a" * (server.service.limits.body_bytes + 1))
    assert large.value.status_code == 413 and large.value.body["code"] == "too_large"  # type: ignore[index]
    gate.close()
    jobs = [server.submit("red", **QUICK, size=[64, 64]) for _ in range(5)]
    with pytest.raises(openai.RateLimitError) as full:
        draw(client)
    assert full.value.type == "rate_limit_error" and int(full.value.response.headers["retry-after"]) >= 1
    gate.open()
    for job in jobs:
        server.ended(job)


def test_a_job_that_another_cancels(server: Running, gate: Gate) -> None:
    gate.close()
    drawn = server.submit("red", **QUICK, size=[64, 64])
    with ThreadPoolExecutor(1) as pool:
        body = {"prompt": "a", **QUICK, "size": "64x64"}
        answer = pool.submit(server.post, "/v1/images/generations", body)
        wait_until(lambda: server.service.scheduler.waiting)
        waiting = next(iter(server.service.scheduler._waiting))
        server.post(f"/x2i/v1/jobs/{waiting.id}/cancel", b"")
        found = answer.result()
    gate.open()
    assert found.status == 409 and found.headers["x-should-retry"] == "false"
    server.ended(drawn)


def test_edits_of_a_subject_with_a_mask(editor: OpenAI, several: Running, elite_bundle: Path) -> None:
    alpha = np.full((48, 40, 4), 255, np.uint8)
    alpha[8:30, 8:30, 3] = 0
    stream = io.BytesIO()
    Image.fromarray(alpha).save(stream, "PNG")
    marked = np.where(alpha[..., 3] == 0, 255, 0).astype(np.uint8)
    own = io.BytesIO()
    Image.fromarray(marked).save(own, "PNG")
    small: dict[str, Any] = {"model": elite_bundle.name, "prompt": "a photo of S", "size": "64x64"}
    body = {"steps": 2, "seed": 4, "strength": 0.7}
    answer = editor.images.edit(image=picture(), mask=stream.getvalue(), **small, extra_body=body)
    warnings = " ".join(told(answer)["warnings"])
    assert "image: drawn from as subject" in warnings and "mask: what is transparent" in warnings
    same = editor.images.edit(image=[picture()], mask=own.getvalue(), **small, extra_body=body)
    assert image_of(same) == image_of(answer)
    assert "transparent" not in " ".join(told(same)["warnings"])
    # The same as JSON, in base64.
    coded = {"image": base64.b64encode(picture()).decode(), "mask": base64.b64encode(stream.getvalue()).decode()}
    sent = several.post("/v1/images/edits", {**small, **body, **coded})
    assert opened(base64.b64decode(sent.json["data"][0]["b64_json"]), bare=True) == image_of(answer)


def test_edits_of_several_pictures_in_their_order(
    editor: OpenAI, fastcomposer_bundle: Path, ip_adapter_bundle: Path
) -> None:
    prompt = "a man <|image|> and a woman <|image|>"
    small: dict[str, Any] = {"model": fastcomposer_bundle.name, "prompt": prompt, "size": "64x64"}
    body = {"steps": 2, "start_merge_step": 0}
    one, two = picture(0), picture(1)
    there = image_of(editor.images.edit(image=[one, two], **small, extra_body=body))
    back = image_of(editor.images.edit(image=[two, one], **small, extra_body=body))
    assert there != back
    references = editor.images.edit(
        model=ip_adapter_bundle.name, prompt="red", image=[one, two], size="64x64", extra_body={"steps": 2}, stream=True
    )
    with references as stream:
        assert [event.type for event in stream] == ["image_edit.completed"]


def test_edits_of_a_bundle_that_reads_no_other_picture(client: OpenAI) -> None:
    """The picture is the start, which is filled where the mask is transparent."""
    alpha = np.full((48, 40, 4), 255, np.uint8)
    alpha[8:30, 8:30, 3] = 0
    mask = io.BytesIO()
    Image.fromarray(alpha).save(mask, "PNG")
    redrawn = client.images.edit(image=picture(), prompt="S", extra_body=QUICK)
    filled = client.images.edit(image=picture(), mask=mask.getvalue(), prompt="S", extra_body=QUICK)
    assert "image: drawn from as start" in told(redrawn)["warnings"]
    assert image_of(redrawn) != image_of(filled) and image_of(filled).size == (40, 48)


def test_edits_that_cannot_be(editor: OpenAI, several: Running, client: OpenAI, elite_bundle: Path) -> None:
    for image, words in ((b"none", "expected a picture"), (picture()[:2000], "")):
        with pytest.raises(openai.BadRequestError) as failed:
            editor.images.edit(image=image, prompt="S", model=elite_bundle.name)
        assert words in failed.value.message and "x2i-server" not in failed.value.message
    with pytest.raises(openai.BadRequestError, match="inpaint: expected"):
        client.images.edit(image=picture(), mask=picture(size=(8, 8)), prompt="S", extra_body=QUICK)
    body, kind = form({"prompt": "S", "steps": "two", "n": "x", "stream": "maybe"}, [("image", picture())])
    answer = several.post("/v1/images/edits", body, Content_Type=kind)
    assert answer.status == 400 and {"n", "stream"} <= {
        line.split(":")[0] for line in answer.error["message"].split("\n")
    }
