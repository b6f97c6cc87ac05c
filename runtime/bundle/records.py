"""Frozen dataclasses from and to JSON, strictly: unknown keys raise, and all problems are told at once."""

import dataclasses
import types
import typing
from typing import Any

from ..errors import InputError

T = typing.TypeVar("T")


def encode(record: Any) -> Any:
    """The JSON form of a dataclass; fields that hold their default are left out."""
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        return {
            f.name: encode(getattr(record, f.name)) for f in dataclasses.fields(record) if not _is_default(record, f)
        }
    if isinstance(record, dict):
        return {key: encode(value) for key, value in record.items()}
    if isinstance(record, tuple | list):
        return [encode(item) for item in record]
    return record


def decode(cls: type[T], data: Any, where: str) -> T:
    """An instance of the dataclass `cls` from JSON data; `where` names the data in messages.

    Raises InputError with one line per unknown key, missing key and value of a wrong type.
    """
    problems: list[str] = []
    record = _decode(cls, data, where, problems)
    if problems:
        raise InputError(*problems)
    return record


def _is_default(record: Any, field: dataclasses.Field) -> bool:
    if field.default_factory is not dataclasses.MISSING:
        return getattr(record, field.name) == field.default_factory()
    return field.default is not dataclasses.MISSING and getattr(record, field.name) == field.default


def _decode(kind: Any, data: Any, where: str, problems: list[str]) -> Any:
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, data, where, problems)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return _decode_union(arguments, data, where, problems)
    if origin is typing.Literal:
        if data not in arguments:
            problems.append(f"{where}: expected one of {', '.join(map(repr, arguments))}, got {data!r}")
        return data
    if origin is tuple and isinstance(data, list):
        return _decode_tuple(arguments, data, where, problems)
    if origin is dict and isinstance(data, dict):
        return {key: _decode(arguments[1], value, f"{where}.{key}", problems) for key, value in data.items()}
    expected = origin or kind
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if not isinstance(data, expected) or (isinstance(data, bool) and expected is not bool):
        problems.append(f"{where}: expected {expected.__name__}, got {type(data).__name__} {data!r:.60}")
    return data


def _decode_dataclass(cls: Any, data: Any, where: str, problems: list[str]) -> Any:
    if not isinstance(data, dict):
        problems.append(f"{where}: expected an object, got {type(data).__name__}")
        return None
    kinds, before = typing.get_type_hints(cls), len(problems)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    problems += [f"{where}: unknown key {key!r} (known: {', '.join(fields)})" for key in data if key not in fields]
    required = [f.name for f in fields.values() if f.default is f.default_factory is dataclasses.MISSING]
    problems += [f"{where}: missing key {name!r}" for name in required if name not in data]
    values = {
        name: _decode(kinds[name], value, f"{where}.{name}", problems) for name, value in data.items() if name in fields
    }
    return cls(**values) if len(problems) == before else None


def _decode_union(kinds: tuple, data: Any, where: str, problems: list[str]) -> Any:
    """The first kind that takes the data; if none does, the problems of the first."""
    first: list[str] = []
    for kind in kinds:
        found: list[str] = []
        if kind is type(None):
            if data is None:
                return None
            continue
        value = _decode(kind, data, where, found)
        if not found:
            return value
        first = first or found
    problems += first
    return None


def _decode_tuple(kinds: tuple, data: list, where: str, problems: list[str]) -> tuple:
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(data)
    if len(kinds) != len(data):
        problems.append(f"{where}: expected {len(kinds)} items, got {len(data)}")
    return tuple(
        _decode(kind, item, f"{where}[{i}]", problems) for i, (kind, item) in enumerate(zip(kinds, data, strict=False))
    )
