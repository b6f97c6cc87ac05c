"""The bodies and answers of the interfaces, as OpenAPI's schema has them."""

from typing import Any

from ...inputs.option import Option
from ...inputs.registry import run_options

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
REFUSED = (400, 401, 404, 405, 413, 429, 503)
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"description": "Refused", "content": {"application/json": {"schema": ERROR}}} for status in REFUSED
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


def sent_options() -> dict[str, Option]:
    """The options that a request may send: all that are no arrays, and need no second bundle."""
    return {name: option for name, option in run_options().items() if option.form != "array" and name != "mix"}


def option_properties() -> dict[str, Any]:
    """The options as JSON Schema; which of them a bundle takes, its capabilities say."""
    return {name: option.schema() for name, option in sent_options().items()}


JOB_REQUEST = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "bundle": {"type": "string"},
        "prompt": {"type": ["string", "null"]},
        "options": {"type": "object", "additionalProperties": False, "properties": option_properties()},
        "previews": {"type": "integer", "minimum": 0, "maximum": 100, "default": 0},
    },
}


def json_body(schema: dict[str, Any], *kinds: str) -> dict[str, Any]:
    """What FastAPI is to say of a body: JSON, and other kinds of the same fields."""
    content = {kind: {"schema": schema} for kind in ("application/json", *kinds)}
    return {"requestBody": {"required": True, "content": content}}


def answers(status: int, schema: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """What FastAPI is to say of the answers: one with a status, and the refusals."""
    said = {"description": "Answered", "content": {"application/json": {"schema": schema}}}
    return {status: said, **REFUSALS}
