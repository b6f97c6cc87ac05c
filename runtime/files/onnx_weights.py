"""An ONNX graph and its large weights apart, found in the file's bytes without a library: a graph of a few megabytes,
and arrays that lie in the mapped files, where a library's own reader would hold a copy of every weight."""

import mmap
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .mapped import MappedFile, map_file
from .protobuf import Field, bytes_field, message_fields, number_field, varint

LEAST_BYTES = 65536
"""Of a weight that is taken out. Sizes, axes and scales are smaller: a reader must see them to know the graph."""
_TYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 10: "float16", 11: "float64"}
"""numpy's names of onnx.proto's types, of those that have the same bytes in both."""
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT = 1, 5, 11
_PLACE = b"location"
"""What a tensor in another file says of it: without its folder, the graph's file, none is found there."""
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA, _EXTERNAL, _LOCATION = 1, 2, 8, 9, 13, 14
_VALUE_NAME, _VALUE_TYPE, _TENSOR_TYPE, _ELEMENT, _SHAPE, _DIMENSION, _SIZE = 1, 2, 1, 1, 2, 1, 1
_KEY, _VALUE = 1, 2


class NotApart(ValueError):
    """A file that is no ONNX graph, or whose weights lie there in a way that is not read here."""


def graph_and_weights(path: Path) -> tuple[bytes, dict[str, np.ndarray]]:
    """The graph, in which every large weight is an input of its name, type and shape, and these weights by name.

    Their arrays hold the mapped file that they lie in, and may begin at any byte of it. Small weights stay in the
    graph. Raises NotApart for what cannot be read so, and OSError for a file that cannot be read at all.
    """
    files = _Files(path)
    weights: dict[str, np.ndarray] = {}
    try:
        content = files[""]
        parts = [
            bytes_field(_MODEL_GRAPH, b"".join(_graph(files, content, field, weights)))
            if field.number == _MODEL_GRAPH and field.long
            else content[field.start : field.stop]
            for field in message_fields(content, 0, len(content))
        ]
    except (IndexError, ValueError) as error:
        raise NotApart(f"{path}: {error}") from error
    return b"".join(parts), weights


def graph_fields(content: mmap.mmap) -> Iterator[Field]:
    """The fields of the graph in a model's bytes; raises IndexError or ValueError for what is no model."""
    for graph in message_fields(content, 0, len(content)):
        if graph.number == _MODEL_GRAPH and graph.long:
            yield from message_fields(content, graph.begin, graph.stop)


class WeightPlace(NamedTuple):
    """Where a weight's bytes lie in its graph's own file."""

    offset: int
    length: int


def weight_places(path: Path, least: int) -> dict[str, WeightPlace]:
    """The places of the weights of `least` bytes and more that lie in a graph's own file, by their names; those in
    others are left out.

    Raises NotApart for what is no graph, and OSError for a file that cannot be read at all.
    """
    content = map_file(path, path)
    try:
        tensors = [
            tensor
            for field in graph_fields(content)
            if field.number == _GRAPH_INITIALIZER and (tensor := _tensor(content, field)) is not None
        ]
    except (IndexError, ValueError) as error:
        raise NotApart(f"{path}: {error}") from error
    own = [tensor for tensor in tensors if not tensor.location and tensor.nbytes >= least]
    return {tensor.name: WeightPlace(tensor.offset, tensor.nbytes) for tensor in own}


class _Files:
    """A graph's file, under an empty name, and those that its tensors name, mapped on their first use."""

    def __init__(self, path: Path):
        self._path = path
        self._mapped: dict[str, MappedFile] = {}

    def __getitem__(self, location: str) -> MappedFile:
        if location not in self._mapped:
            path = self._path.parent / location if location else self._path
            if location and not path.resolve().is_relative_to(self._path.parent.resolve()):
                raise NotApart("a tensor outside the graph's folder")
            self._mapped[location] = map_file(path, self._path)
        return self._mapped[location]


def _graph(files: _Files, content: mmap.mmap, graph: Field, weights: dict[str, np.ndarray]) -> Iterator[bytes]:
    """The graph's fields; the weights that are taken out go to `weights`."""
    fields = list(message_fields(content, graph.begin, graph.stop))
    inputs = {_text(content, field, _VALUE_NAME) for field in fields if field.number == _GRAPH_INPUT}
    for field in fields:
        tensor = _tensor(content, field) if field.number == _GRAPH_INITIALIZER else None
        if tensor is None or (tensor.small and not tensor.location) or tensor.name in inputs:
            whole = content[field.start : field.stop]
            if field.number == _GRAPH_NODE and _PLACE in whole:
                raise NotApart("a node that may hold a tensor in another file")
            yield whole
        elif tensor.small:
            yield bytes_field(_GRAPH_INITIALIZER, tensor.whole(files[tensor.location]))
        else:
            weights[tensor.name] = tensor.array(files[tensor.location])
            yield bytes_field(_GRAPH_INPUT, tensor.value_info())


class _Tensor(NamedTuple):
    """An initializer whose bytes begin at `offset` of the file `location`."""

    name: str
    type_number: int
    shape: tuple[int, ...]
    location: str
    offset: int

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(_TYPES[self.type_number])

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    @property
    def small(self) -> bool:
        return self.nbytes < LEAST_BYTES

    def array(self, file: MappedFile) -> np.ndarray:
        if self.offset + self.nbytes > len(file):
            raise NotApart("a tensor beyond its file")
        return np.ndarray(self.shape, self.dtype, file.array(), self.offset)

    def value_info(self) -> bytes:
        """The tensor as an input of the graph."""
        shape = b"".join(bytes_field(_DIMENSION, number_field(_SIZE, size)) for size in self.shape)
        of_type = number_field(_ELEMENT, self.type_number) + bytes_field(_SHAPE, shape)
        named = bytes_field(_VALUE_NAME, self.name.encode())
        return named + bytes_field(_VALUE_TYPE, bytes_field(_TENSOR_TYPE, of_type))

    def whole(self, file: MappedFile) -> bytes:
        """The tensor with its bytes in it."""
        dims = b"".join(number_field(_DIMS, size) for size in self.shape)
        named = number_field(_DATA_TYPE, self.type_number) + bytes_field(_NAME, self.name.encode())
        return dims + named + bytes_field(_RAW_DATA, self.array(file).tobytes())


def _tensor(content: mmap.mmap, message: Field) -> _Tensor | None:
    """An initializer, None for one that is written in another way than as its bytes. Raises NotApart for such a one in
    a file of its own: it would be looked for beside no file."""
    dims: list[int] = []
    fields: dict[int, Field] = {}
    entries: dict[str, str] = {}
    for field in message_fields(content, message.begin, message.stop):
        if field.number == _DIMS:
            dims += _numbers(content, field)
        elif field.number == _EXTERNAL:
            entries[_text(content, field, _KEY)] = _text(content, field, _VALUE)
        else:
            fields[field.number] = field
    outside = _LOCATION in fields and fields[_LOCATION].value == 1
    raw = fields.get(_RAW_DATA)
    number = fields[_DATA_TYPE].value if _DATA_TYPE in fields else 0
    if number in _TYPES and _NAME in fields and (outside or raw is not None):
        name = content[fields[_NAME].begin : fields[_NAME].stop].decode()
        start, length = (0, None) if raw is None else (raw.begin, raw.stop - raw.begin)
        if outside:
            start, length = int(entries.get("offset", "0")), int(entries["length"]) if "length" in entries else None
        tensor = _Tensor(name, number, tuple(dims), entries.get("location", "") if outside else "", start)
        if length in (None, tensor.nbytes) and bool(tensor.location) == outside:
            return tensor
    if outside:
        raise NotApart("a tensor in another file that is not its bytes")
    return None


def _numbers(content: mmap.mmap, field: Field) -> list[int]:
    """The numbers of a repeated field, written one by one or together."""
    if field.value is not None:
        return [field.value]
    found, place = [], field.begin
    while place < field.stop:
        value, place = varint(content, place, field.stop)
        found.append(value)
    return found


def _text(content: mmap.mmap, message: Field, number: int) -> str:
    """A text in a message; empty where it has none."""
    for field in message_fields(content, message.begin, message.stop):
        if field.number == number:
            return content[field.begin : field.stop].decode()
    return ""
