"""The server's schema says what its bundles take, and what it answers."""

from pathlib import Path
from typing import Any

import pytest

from tests.hostile.endpoints import fuzz
from tests.runtime.server.running import Running, running

pytestmark = pytest.mark.filterwarnings("ignore")


def body_of(server: Running, path: str, kind: str = "application/json") -> dict[str, Any]:
    document = server.get("/openapi.json").json
    found: dict[str, Any] = document["paths"][path]["post"]["requestBody"]["content"][kind]["schema"]
    return found


def test_bodies_are_those_of_the_bundle(server: Running, tiny_bundle: Path) -> None:
    job = body_of(server, "/x2i/v1/jobs")
    options = job["properties"]["options"]
    assert job["required"] == ["prompt", "options"] and options["required"] == ["language"]
    assert options["properties"]["language"]["enum"] == ["Chinese", "French"]
    assert options["properties"]["size"]["items"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 16384,
        "multipleOf": 8,
    }
    assert "subject" not in options["properties"] and options["properties"]["steps"]["maximum"] == 1000
    images = body_of(server, "/v1/images/generations")
    assert images["required"] == ["prompt", "language"] and images["properties"]["model"]["enum"] == [tiny_bundle.name]
    assert images["properties"]["negative_prompt"] == images["properties"]["negative"]


def test_bodies_of_several_bundles(tiny_bundle: Path, ip_adapter_bundle: Path) -> None:
    with running(tiny_bundle, ip_adapter_bundle) as server:
        first, second = body_of(server, "/x2i/v1/jobs")["oneOf"]
        assert "bundle" not in first["required"] and "bundle" in second["required"]
        assert second["properties"]["options"]["properties"]["image"]["items"]["contentEncoding"] == "base64"
        edits = body_of(server, "/v1/images/edits", "multipart/form-data")
        assert edits["properties"]["image"]["items"]["format"] == "binary" and edits["required"] == ["prompt"]


def test_answers_are_told(server: Running) -> None:
    document = server.get("/openapi.json").json
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert {"400", "401", "404", "405", "413", "429", "503"} <= set(operation["responses"]), path
            assert "422" not in operation["responses"]
    assert list(document["paths"]["/metrics"]["get"]["responses"]["200"]["content"]) == ["text/plain"]


def test_every_method_of_an_address_is_told(server: Running) -> None:
    answer = server.ask("DELETE", "/sdapi/v1/options")
    assert answer.status == 405 and answer.headers["allow"] == "GET, POST"


def test_requests_drawn_from_the_schema_hold(tiny_bundle: Path) -> None:
    cases, said = fuzz([tiny_bundle], 1, "coverage,fuzzing")
    assert not said, said
    assert cases > 500
