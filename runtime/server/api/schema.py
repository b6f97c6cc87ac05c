"""The bodies and answers of the interfaces, as OpenAPI's schema has them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...inputs.option import FILES
from ..models.bundles import ServedBundle
from ..settings import ServerLimits

JSON, FORM = "application/json", "multipart/form-data"
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
REFUSED = (400, 401, 404, 405, 408, 413, 429, 500, 503, 504)
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"description": "Refused", "content": {JSON: {"schema": ERROR}}} for status in REFUSED
}
LIVE = {"type": "object", "required": ["status"], "properties": {"status": {"const": "alive"}}}
READY = {"type": "object", "required": ["status"], "properties": {"status": {"enum": ["ready", "not ready"]}}}
READINESS: dict[int | str, dict[str, Any]] = {
    status: {"description": said, "content": {JSON: {"schema": schema}}}
    for status, said, schema in (
        (200, "It takes work", READY),
        (503, "It opens its bundles, or stops", {"anyOf": [READY, ERROR]}),
    )
}
METRICS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Prometheus' text format", "content": {"text/plain": {"schema": {"type": "string"}}}}
}
JOB = {
    "type": "object",
    "required": ["id", "bundle", "state", "created", "position", "step", "steps", "seconds_left", "error", "result"],
    "properties": {
        "id": {"type": "string"},
        "bundle": {"type": "string"},
        "state": {"enum": ["queued", "running", "done", "failed", "cancelled"]},
        "created": {"type": "number"},
        "position": {"type": ["integer", "null"]},
        "step": {"type": "integer"},
        "steps": {"type": ["integer", "null"]},
        "seconds_left": {"type": ["number", "null"]},
        "error": {"type": ["object", "null"]},
        "result": {"type": ["object", "null"]},
    },
}


def body_of(*kinds: str) -> dict[str, Any]:
    """What FastAPI is to say of a body: its kinds; `described` adds the rest."""
    content: dict[str, Any] = {kind: {"schema": {"type": "object"}} for kind in kinds}
    return {"requestBody": {"required": True, "content": content}}


def answers(status: int, schema: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """What FastAPI is to say of the answers: one with a status, and the refusals."""
    said = {"description": "Answered", "content": {JSON: {"schema": schema}}}
    return {status: said, **REFUSALS}


Bodies = Callable[[Sequence[ServedBundle], ServerLimits, str], dict[str, Any]]
"""(bundles, limits, media type) -> the schema of a body."""


def described(
    document: dict[str, Any], bodies: Mapping[str, Bodies], served: Sequence[ServedBundle], limits: ServerLimits
) -> dict[str, Any]:
    """FastAPI's document with the bodies that these bundles take, by address, and without what is never answered."""
    for path in document["paths"].values():
        for operation in path.values():
            # What FastAPI finds wrong is a 400 here.
            operation["responses"].pop("422", None)
    for address, made in bodies.items():
        for kind, content in document["paths"][address]["post"]["requestBody"]["content"].items():
            content["schema"] = made(served, limits, kind)
    for name in ("HTTPValidationError", "ValidationError"):
        document.get("components", {}).get("schemas", {}).pop(name, None)
    return document


def bundle_options(bundle: ServedBundle, limits: ServerLimits, kind: str = JSON) -> dict[str, Any]:
    """A bundle's options as JSON Schema, by name: files as base64, or in a form as they are."""
    options: dict[str, dict[str, Any]] = bundle.capabilities()["options"]
    found = {name: _sent(schema, kind) for name, schema in options.items()}
    if "size" in found:
        multiple = bundle.bundle.manifest.plan.process.canvas.multiple
        found["size"] |= {"items": found["size"]["items"] | {"multipleOf": multiple}}
    if "negative" in found:
        found["negative"] |= {"maxLength": limits.prompt_length}
    return found


def any_options(served: Sequence[ServedBundle], limits: ServerLimits, kind: str = JSON) -> dict[str, Any]:
    """The options that some of the bundles take."""
    found: dict[str, list[dict[str, Any]]] = {}
    for options in (bundle_options(bundle, limits, kind) for bundle in served):
        for name, schema in options.items():
            if schema not in (others := found.setdefault(name, [])):
                others.append(schema)
    return {name: schemas[0] if len(schemas) == 1 else {"anyOf": schemas} for name, schemas in found.items()}


def needed_options(bundle: ServedBundle) -> list[str]:
    """The options that a bundle does not do without, as far as its manifest says so."""
    return ["language"] if bundle.bundle.manifest.languages else []


def needed_fields(served: Sequence[ServedBundle]) -> list[str]:
    """What every one of the bundles needs to be told."""
    prompt = ["prompt"] if all(each.bundle.manifest.prompt_need == "required" for each in served) else []
    return prompt + (["language"] if all(map(needed_options, served)) else [])


def prompt_schema(served: Sequence[ServedBundle], limits: ServerLimits) -> dict[str, Any]:
    """The prompt as these bundles read it."""
    needs = {each.bundle.manifest.prompt_need for each in served}
    if needs == {"none"}:
        return {"type": ["string", "null"], "maxLength": 0}
    kinds = "string" if needs == {"required"} else ["string", "null"]
    return {"type": kinds, "maxLength": limits.prompt_length}


def _sent(schema: dict[str, Any], kind: str) -> dict[str, Any]:
    found = {key: value for key, value in schema.items() if key != "form"}
    if schema["form"] not in FILES:
        return found
    file = {"type": "string"} | ({"contentEncoding": "base64"} if kind == JSON else {"format": "binary"})
    return found | ({"items": file} if "items" in found else file)
