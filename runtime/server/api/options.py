"""From the fields of a request to the options of a run: types, uploaded files, and the server's limits.

No path comes from a request. What it uploads is written to a folder of the server's own, under names of the server's
own, and read from there as `x2i run` reads files.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...inputs.option import MOST_VALUES, OWN_FILES_ONLY, Option, short
from ...inputs.registry import run_options
from ...request import Request
from ..settings import ServerLimits
from .body import Body
from .uploads import picture_pixels

FLAGS = {"true": True, "false": False}
NOT_TAKEN = {
    "array": "arrays, got one",
    "weights": "weights from its clients, got some",
    "item": "names of files from its clients, got items, beside which prompt and image can be sent",
}
"""What is said of options that no client may send, by their form."""
SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")


def sent_options() -> set[str]:
    """The names of the options that a request may send: all but arrays, weights, items, and what needs a second
    bundle."""
    return {name for name, option in run_options().items() if option.form not in OWN_FILES_ONLY and name != "mix"}


def options_of_body(body: Body, folder: Path, limits: ServerLimits) -> dict[str, Any]:
    """The options of a run that a body's fields and files are; those files are written into `folder`, which is made.

    Raises InputError with every problem of files and types; what the values must be, the bundle says.
    """
    known, problems = run_options(), list[str]()
    found: dict[str, Any] = {}
    uploads: dict[str, list[bytes]] = {}
    for name in dict.fromkeys((*body.values, *body.files)):
        option, value = known.get(name), body.values.get(name)
        if option is not None and option.form in OWN_FILES_ONLY and (name in body.files or value is not None):
            what = NOT_TAKEN[option.form]
            problems.append(f"{name}: a server takes no {what}; leave it out")
        elif option is not None and option.is_file and (name in body.files or value is not None):
            try:
                uploads[name] = _blobs(option, value, body.files.get(name, []))
            except InputError as error:
                problems += error.problems
        elif name in body.files:
            problems.append(f"{name}: expected a value, got a file; send it as text")
        elif value is not None:
            found[name] = value if body.typed or option is None else _typed(option, value)
    problems += _upload_problems(uploads, limits)
    if problems:
        raise InputError(*problems)
    found |= {name: _saved(known[name], blobs, folder) for name, blobs in uploads.items()}
    if isinstance(found.get("size"), list):
        found["size"] = tuple(found["size"])
    return found


def brings_files(body: Body) -> bool:
    """Whether pictures or sounds come with a body."""
    known = run_options()
    return bool(body.files) or any(name in known and known[name].is_file for name in body.values)


def length_problems(values: Mapping[str, Any], limits: ServerLimits) -> list[str]:
    """One line for each text that would take long to read alone."""
    return [
        f"{name}: expected at most {limits.prompt_length} characters, got {len(text)}; shorten it"
        for name, text in values.items()
        if isinstance(text, str) and len(text) > limits.prompt_length
    ]


def limit_problems(request: Request, steps: int, limits: ServerLimits) -> list[str]:
    """One line for each limit of the server that a run would pass."""
    height, width = request.size
    problems = []
    if request.count > limits.pictures:
        problems.append(f"count: expected at most {limits.pictures}, got {request.count}; ask for fewer at a time")
    if steps > limits.steps:
        problems.append(f"steps: expected at most {limits.steps}, got {steps}; ask for fewer")
    if (pixels := height * width * request.count) > limits.pixels:
        problems.append(f"size: expected at most {limits.pixels} pixels together, got {pixels}; draw smaller or fewer")
    return problems


def _typed(option: Option, text: Any) -> Any:
    """A form's text as the value that it stands for; left as it is where it stands for none."""
    if not isinstance(text, str) or option.form in ("text", "choice", "table"):
        return text
    if option.form == "flag":
        return FLAGS.get(text.lower(), text)
    if option.form == "size":
        found = SIZE.fullmatch(text)
        return (int(found[1]), int(found[2])) if found else text
    try:
        return int(text) if option.form == "count" else float(text)
    except ValueError:
        return text


def _blobs(option: Option, value: Any, files: list[bytes]) -> list[bytes]:
    """The files of an option: uploaded, or as base64 in the text."""
    found = [*files, *([] if value is None else decoded_files(option.name, value))]
    if len(found) > MOST_VALUES:
        raise InputError(f"{option.name}: expected at most {MOST_VALUES} files, got {len(found)}; leave others out")
    if len(found) != 1 and not option.several:
        raise InputError(f"{option.name}: expected one file, got {len(found)}; send one")
    return found


def decoded_files(name: str, value: Any) -> list[bytes]:
    """The files of a field, which is base64 or a list of it. Raises InputError."""
    return [_decoded(name, text) for text in (value if isinstance(value, list) else [value])]


def _decoded(name: str, text: Any) -> bytes:
    expected = f"{name}: expected a file in base64, or a data URL of one"
    if not isinstance(text, str):
        raise InputError(f"{expected}, got {short(text)}; encode the file")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        # A path, or an address: nothing is fetched or opened for anyone.
        raise InputError(f"{expected}, got {short(text)}; encode the file") from error


def _upload_problems(uploads: Mapping[str, list[bytes]], limits: ServerLimits) -> list[str]:
    """Empty files, and pictures that together have more pixels than are read at once."""
    problems = [
        f"{name}: expected a file, got an empty one; send it again" for name, blobs in uploads.items() if b"" in blobs
    ]
    pixels = {name: sum(map(picture_pixels, blobs)) for name, blobs in uploads.items()}
    if (together := sum(pixels.values())) > limits.pixels:
        largest = max(pixels, key=lambda name: pixels[name])
        problems.append(f"{largest}: expected at most {limits.pixels} pixels together, got {together}; scale it down")
    return problems


def _saved(option: Option, blobs: Sequence[bytes], folder: Path) -> Path | list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{option.name}-{number}" for number in range(1, len(blobs) + 1)]
    for path, blob in zip(paths, blobs, strict=True):
        path.write_bytes(blob)
    return paths if option.several else paths[0]
