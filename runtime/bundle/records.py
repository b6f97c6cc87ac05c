"""Frozen dataclasses from and to JSON, strictly.

msgspec checks the types and ranges of values. It stops at the first problem and passes over unknown keys of
dataclasses, so objects and sequences are walked here: every problem is told at once.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Protocol, Self, runtime_checkable

import msgspec
from msgspec import Meta

from ..errors import InputError

T = typing.TypeVar("T")

KEY = "key"
"""The entry of a field's metadata that names it in JSON, where a manifest has another word for it."""
Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
"""A whole number of things, from 1."""
Index = Annotated[int, Meta(ge=0, le=2**31 - 1)]
"""A whole number from 0."""
Finite = Annotated[float, Meta(ge=-1e30, le=1e30)]
"""A number that float32 holds; neither infinite nor NaN."""
Share = Annotated[float, Meta(ge=0, le=1)]
"""A part of a whole, from 0 to 1."""
Amount = Annotated[float, Meta(ge=0, le=1e30)]
"""A number from 0, such as seconds or an error."""
Positive = Annotated[float, Meta(gt=0, le=1e30)]
"""A number above 0, such as the seconds of what was measured."""
Bytes = Annotated[int, Meta(ge=0, le=2**62)]
"""Of a file, or of memory."""
Side = Annotated[int, Meta(ge=1, le=16384)]
"""Pixels, or cells, of one side of a picture."""
Window = Annotated[int, Meta(ge=2, le=65536)]
"""Tokens that an encoder reads at once, the opening and the closing one among them."""
Few = Annotated[int, Meta(ge=1, le=4096)]
"""A number of channels, of embeddings, or of steps between others."""
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
"""In hexadecimal digits."""


@runtime_checkable
class KeyedRecord(Protocol):
    """A record whose keys are not its dataclass's fields, because they depend on what else there is."""

    @classmethod
    def key_types(cls) -> dict[str, Any]:
        """The type of every key that JSON may have, in the order in which it is written."""

    @classmethod
    def required_keys(cls) -> frozenset[str]:
        """The keys that JSON must have."""

    @classmethod
    def from_keys(cls, values: Mapping[str, Any]) -> Self:
        """The record of decoded values by their keys."""

    def to_keys(self) -> dict[str, Any]:
        """The keys to be written."""


def encode(record: Any) -> Any:
    """The JSON form of a dataclass. Fields that hold their default are left out, except tags: Literals of one value."""
    if isinstance(record, KeyedRecord):
        return {key: encode(value) for key, value in record.to_keys().items()}
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        kinds = typing.get_type_hints(type(record))
        written = [f for f in dataclasses.fields(record) if _is_tag(kinds[f.name]) or not _is_default(record, f)]
        return {_key(f): encode(getattr(record, f.name)) for f in written}
    if isinstance(record, dict):
        return {key: encode(value) for key, value in record.items()}
    if isinstance(record, tuple | list):
        return [encode(item) for item in record]
    return record


def decode(cls: type[T], data: Any, where: str) -> T:
    """An instance of the dataclass `cls` from JSON data; `where` names the data in messages.

    Raises InputError with one line per unknown key, missing key, and value of a wrong type or out of its range.
    """
    problems: list[str] = []
    record = _decode(cls, data, where, problems)
    if problems:
        raise InputError(*problems)
    return record


def _key(field: dataclasses.Field) -> str:
    name: str = field.metadata.get(KEY, field.name)
    return name


def _is_tag(kind: Any) -> bool:
    return typing.get_origin(kind) is typing.Literal and len(typing.get_args(kind)) == 1


def _is_default(record: Any, field: dataclasses.Field) -> bool:
    if field.default_factory is not dataclasses.MISSING:
        return getattr(record, field.name) == field.default_factory()
    return field.default is not dataclasses.MISSING and getattr(record, field.name) == field.default


def _decode(kind: Any, data: Any, where: str, problems: list[str]) -> Any:
    if isinstance(kind, type) and issubclass(kind, KeyedRecord):
        types_of, required = kind.key_types(), kind.required_keys()
        return _decode_object(kind, data, types_of, required, where, problems)
    if dataclasses.is_dataclass(kind):
        fields = dataclasses.fields(kind)
        required = frozenset(_key(f) for f in fields if f.default is f.default_factory is dataclasses.MISSING)
        types_of = typing.get_type_hints(kind, include_extras=True)
        return _decode_object(kind, data, {_key(f): types_of[f.name] for f in fields}, required, where, problems)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return _decode_union(arguments, data, where, problems)
    if origin is typing.Literal:
        if data not in arguments:
            problems.append(f"{where}: expected one of {', '.join(map(repr, arguments))}, got {data!r:.60}")
        return data
    if origin in (tuple, dict) and not isinstance(data, list if origin is tuple else dict):
        expected = "array" if origin is tuple else "object"
        problems.append(f"{where}: expected {expected}, got {type(data).__name__} {data!r:.60}")
        return None
    if origin is tuple:
        return _decode_tuple(arguments, data, where, problems)
    if origin is Annotated and typing.get_origin(arguments[0]) is tuple:
        items = _decode(arguments[0], data, where, problems)
        if items is not None and len(items) < arguments[1].min_length:
            problems.append(f"{where}: expected at least {arguments[1].min_length} items, got {len(items)}")
        return items
    if origin is dict:
        return {key: _decode(arguments[1], value, f"{where}.{key}", problems) for key, value in data.items()}
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        expected = str(error).partition(", got ")[0].replace("`", "").replace("Expected", "expected")
        problems.append(f"{where}: {expected}, got {type(data).__name__} {data!r:.60}")
        return None


def _decode_object(
    cls: Any, data: Any, types_of: dict[str, Any], required: frozenset[str], where: str, problems: list[str]
) -> Any:
    if not isinstance(data, dict):
        problems.append(f"{where}: expected an object, got {type(data).__name__}")
        return None
    before = len(problems)
    problems += [f"{where}: unknown key {key!r} (known: {', '.join(types_of)})" for key in data if key not in types_of]
    problems += [f"{where}: missing key {name!r}" for name in types_of if name in required and name not in data]
    values = {
        name: _decode(types_of[name], value, f"{where}.{name}", problems)
        for name, value in data.items()
        if name in types_of
    }
    if len(problems) > before:
        return None
    if issubclass(cls, KeyedRecord):
        return cls.from_keys(values)
    return cls(**{f.name: values[_key(f)] for f in dataclasses.fields(cls) if f.init and _key(f) in values})


def _decode_union(kinds: tuple, data: Any, where: str, problems: list[str]) -> Any:
    """The first kind that takes the data. If none does, the problems of the kind that has the fewest: of those that
    have the data's tag, or none where it has none, if there are such."""
    tried: list[tuple[bool, int, list[str]]] = []
    for kind in kinds:
        if kind is type(None):
            if data is None:
                return None
            continue
        found: list[str] = []
        value = _decode(kind, data, where, found)
        if not found:
            return value
        tried.append((not _fits_tag(kind, data), len(found), found))
    problems.extend(min(tried, key=lambda each: each[:2])[2])
    return None


def _fits_tag(kind: Any, data: Any) -> bool:
    """Whether a record's kind is the one that the data names, or names none as the data does."""
    if not dataclasses.is_dataclass(kind) or not isinstance(data, dict):
        return True
    hints = typing.get_type_hints(kind)
    tags = {f.name: typing.get_args(hints[f.name])[0] for f in dataclasses.fields(kind) if _is_tag(hints[f.name])}
    return all(data.get(name) == tag for name, tag in tags.items()) and ("kind" in tags or "kind" not in data)


def _decode_tuple(kinds: tuple, data: list, where: str, problems: list[str]) -> tuple:
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(data)
    if len(kinds) != len(data):
        problems.append(f"{where}: expected {len(kinds)} items, got {len(data)}")
    return tuple(
        _decode(kind, item, f"{where}[{i}]", problems) for i, (kind, item) in enumerate(zip(kinds, data, strict=False))
    )
