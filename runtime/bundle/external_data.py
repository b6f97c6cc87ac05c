"""The files that an ONNX graph reads beside itself, found in its bytes without a library.

An ONNX file is a protobuf message. Only those parts are walked that can hold a tensor, and of the small ones only what
holds the word by which a tensor names its file.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError
from ..files.protobuf import message_fields
from ..files.reading import open_given

# Fields of onnx.proto by message: the number of each that can hold a tensor, and what it holds.
_FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {1: "key", 2: "value"},
}
_WORD = b"location"
_SEARCHED = 4096
"""Bytes of a message up to which a search for the word is quicker than a walk. What is longer holds weights, which a
walk leaves in the file: a search would read all of it."""
_MOST_LEVELS = 100
"""Of messages inside messages."""


def external_data_names(path: Path) -> list[str]:
    """The names under which a graph's tensors look for their data, relative to the graph, each once.

    Raises InputError for a file that is no protobuf message but holds the word.
    """
    with open_given(path, str(path), "an ONNX graph") as stream:
        if not stream.seek(0, 2):
            return []
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            try:
                found = list(_locations(content, 0, len(content), "model"))
            except (IndexError, ValueError) as error:
                if content.find(_WORD) < 0:
                    return []
                damage = "expected an ONNX graph, got a damaged file"
                raise InputError(f"{path}: {damage}; copy or export the bundle again") from error
    return [name.decode("utf-8", "backslashreplace") for name in dict.fromkeys(found)]


def _locations(content: mmap.mmap, start: int, end: int, message: str, level: int = 0) -> Iterator[bytes]:
    if level > _MOST_LEVELS:
        raise ValueError("too deep")
    inside = _FIELDS[message]
    for number, begin, stop in _messages(content, start, end):
        kind = inside.get(number)
        if kind == "entry":
            yield from _location(content, begin, stop)
        elif kind is not None and (stop - begin > _SEARCHED or content.find(_WORD, begin, stop) >= 0):
            yield from _locations(content, begin, stop, kind, level + 1)


def _location(content: mmap.mmap, start: int, end: int) -> Iterator[bytes]:
    """The value of one entry of a tensor's external data, if its key is the location. Of a field that stands twice the
    last holds."""
    entry = {
        _FIELDS["entry"].get(number, ""): content[begin:stop] for number, begin, stop in _messages(content, start, end)
    }
    if entry.get("key") == _WORD:
        yield entry.get("value", b"")


def _messages(content: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, begin and end of every field of a message that has a length."""
    for field in message_fields(content, start, end):
        if field.long:
            yield field.number, field.begin, field.stop
