"""What a request brings: JSON, or the fields and files of a form."""

from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from ...errors import InputError
from ...files.reading import parse_json
from ..refusals import ApiError, refused

MOST_FIELDS = 200
"""Fields of an object or a form, and files of a form; AUTOMATIC1111's clients send 70."""

MOST_COMMAS = 100_000
"""Of a JSON text: each may stand between two values, and a value takes many times the memory of its text."""


@dataclass(frozen=True, slots=True)
class Body:
    """`values` by their names, which are JSON's, or the texts of a form (`typed` is false); `files` as bytes, in the
    order in which they came."""

    values: dict[str, Any]
    files: dict[str, list[bytes]] = field(default_factory=dict)
    typed: bool = True


async def read_body(request: Request) -> Body:
    """A JSON object, or a form with files. Raises ApiError (400) for anything else."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _read_form(request)
    if kind not in ("", "application/json"):
        message = f"Content-Type: expected application/json or multipart/form-data, got {kind}; send one of them"
        raise ApiError(400, message, "Content-Type", "invalid_value")
    # The request itself would keep it as long as its job waits.
    return Body(json_object(b"".join([part async for part in request.stream()]), "body"))


def json_object(data: bytes, where: str) -> dict[str, Any]:
    """The object in some bytes of JSON. Raises ApiError (400)."""
    if (commas := data.count(b",")) > MOST_COMMAS:
        raise ApiError(400, f"{where}: expected at most {MOST_COMMAS} values, got about {commas}; send fewer", where)
    try:
        found = parse_json(data.decode("utf-8"), where)
    except UnicodeDecodeError as error:
        raise ApiError(400, f"{where}: expected JSON in UTF-8, got other bytes; encode it", where) from error
    except InputError as error:
        raise refused(error) from error
    if not isinstance(found, dict):
        raise ApiError(400, f"{where}: expected a JSON object, got {type(found).__name__}; send {{...}}", where)
    if len(found) > MOST_FIELDS:
        raise ApiError(400, f"{where}: expected at most {MOST_FIELDS} fields, got {len(found)}; leave some out", where)
    return found


async def _read_form(request: Request) -> Body:
    """Names that end in [] are repeated ones, as OpenAI's client writes lists."""
    values: dict[str, Any] = {}
    files: dict[str, list[bytes]] = {}
    try:
        # The form's own limit of a field is that of the body, which was looked at before.
        async with request.form(max_files=MOST_FIELDS, max_fields=MOST_FIELDS, max_part_size=2**31) as form:
            for key, value in form.multi_items():
                name = key.removesuffix("[]")
                if isinstance(value, UploadFile):
                    files.setdefault(name, []).append(await value.read())
                elif key.endswith("[]"):
                    values.setdefault(name, []).append(value)
                else:
                    values[name] = value
    except HTTPException as error:
        expected = f"body: expected multipart/form-data with at most {MOST_FIELDS} fields and as many files"
        raise ApiError(400, f"{expected}, got another ({error.detail}); correct it", "body", "invalid_value") from error
    return Body(values, files, typed=False)
