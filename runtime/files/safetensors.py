"""The tensors of a `.safetensors` file, as float32. The header is believed only where the whole file agrees with it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, one_line
from .reading import is_unicode, parse_json, read_bytes

SAFETENSORS_BYTES = 2_000_000_000
"""What a file may have; the largest LoRAs that are published have 1.2 GB."""
MOST_HEADER_BYTES = 100_000_000
"""As in the library that defined the format."""
MOST_TENSORS = 100_000
MOST_AXES = 8
_LENGTH_BYTES = 8
_METADATA = "__metadata__"
# What numpy lacks is read as whole numbers of its bits.
_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "F64": np.dtype("<f8"),
    "F8_E4M3": np.dtype("u1"),
    "F8_E5M2": np.dtype("u1"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
}


@dataclass(frozen=True, slots=True)
class Safetensors:
    """What a file holds: float32 `tensors` by their names, in the order of their bytes, and the texts of its
    `metadata`."""

    tensors: dict[str, np.ndarray]
    metadata: dict[str, str]


def read_safetensors(path: Path, where: str, kind: str, most: int = SAFETENSORS_BYTES) -> Safetensors:
    """A file of at most `most` bytes, of floats or whole numbers; `where` begins every message, `kind` says what was
    expected.

    Raises InputError for what is no regular file, and as `parse_safetensors` does.
    """
    return parse_safetensors(read_bytes(path, where, kind, most), where)


def parse_safetensors(content: bytes, where: str) -> Safetensors:
    """The tensors in a file's bytes. Raises InputError with every problem: a header that is cut, longer than the file,
    or no JSON object; a dtype that is none of these; a shape that has not the bytes its offsets say; tensors that
    overlap, leave bytes out between them, or end before or behind the file."""
    header, begin = _header(content, where)
    metadata = header.pop(_METADATA, {})
    problems = [] if _are_texts(metadata) else [f"{_METADATA} as texts by their names, got {_short(metadata)}"]
    found = {name: _place(name, entry) for name, entry in header.items()}
    problems += [place for place in found.values() if isinstance(place, str)]
    places = {name: place for name, place in found.items() if not isinstance(place, str)}
    if not problems:
        problems += _gaps(places, len(content) - begin)
    if problems:
        raise InputError(*(f"{where}: expected {problem}; download the file again" for problem in problems))
    ordered = sorted(places, key=lambda name: places[name].span)
    return Safetensors({name: _tensor(content, begin, places[name]) for name in ordered}, metadata)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tensor's bytes lie behind the header, from and to."""

    dtype: str
    shape: tuple[int, ...]
    span: tuple[int, int]


def _header(content: bytes, where: str) -> tuple[dict[str, Any], int]:
    """The header's object, and where the tensors' bytes begin."""
    size = int.from_bytes(content[:_LENGTH_BYTES], "little")
    begin = _LENGTH_BYTES + size
    if len(content) < _LENGTH_BYTES or size > MOST_HEADER_BYTES or begin > len(content):
        got = f"a header of {size} bytes in a file of {len(content)}"
        raise InputError(f"{where}: expected a safetensors file, got {got}; give one, or download it again")
    try:
        text = content[_LENGTH_BYTES:begin].decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: expected a safetensors file, got a header that is no text; give one") from error
    header = parse_json(text, where)
    if not isinstance(header, dict) or len(header) > MOST_TENSORS:
        got = f"{len(header)} of them" if isinstance(header, dict) else _short(header)
        raise InputError(f"{where}: expected up to {MOST_TENSORS} named tensors, got {got}; download the file again")
    return header, begin


def _place(name: str, entry: Any) -> _Place | str:
    """Where a tensor lies, or what its entry was expected to be."""
    shown = one_line(repr(name), 80)
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        return f"{shown} with dtype, shape and data_offsets, got {_short(entry)}"
    dtype, shape, span = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        return f"{shown} in {', '.join(_DTYPES)}, got {_short(dtype)}"
    if not _are_counts(shape, 1) or len(shape) > MOST_AXES:
        return f"{shown} with a shape of positive whole numbers, got {_short(shape)}"
    if not _are_counts(span, 0) or len(span) != 2 or math.prod(shape) * _DTYPES[dtype].itemsize != span[1] - span[0]:
        return f"{shown} of {dtype} {_short(shape)} in as many bytes, got offsets {_short(span)}"
    return _Place(dtype, tuple(shape), (span[0], span[1]))


def _gaps(places: dict[str, _Place], size: int) -> list[str]:
    """One line where the tensors are not the file's bytes, one behind the other."""
    reached = 0
    for name, place in sorted(places.items(), key=lambda item: item[1].span):
        if place.span[0] != reached:
            return [f"{one_line(repr(name), 80)} to begin at byte {reached}, got {place.span[0]}"]
        reached = place.span[1]
    return [] if reached == size else [f"{reached} bytes of tensors, got {size}"]


def _tensor(content: bytes, begin: int, place: _Place) -> np.ndarray:
    count, dtype = math.prod(place.shape), _DTYPES[place.dtype]
    stored = np.frombuffer(content, dtype, count, begin + place.span[0])
    if place.dtype in _FROM_BITS:
        stored = _FROM_BITS[place.dtype](stored)
    return stored.astype(np.float32, copy=False).reshape(place.shape)


def _from_e4m3(bits: np.ndarray) -> np.ndarray:
    """Floats of 4 bits of exponent and 3 of mantissa, which have no infinity: all ones are NaN."""
    every = np.arange(256)
    exponent, mantissa = (every >> 3) & 15, every & 7
    size = np.where(exponent == 0, mantissa * 2.0**-9, (8 + mantissa) * 2.0 ** (exponent - 10.0))
    size[(every & 127) == 127] = np.nan
    values: np.ndarray = np.where(every < 128, size, -size).astype(np.float32)
    return values[bits]


# bfloat16 is the upper half of a float32, a float of 5 bits of exponent and 2 of mantissa that of a float16.
_FROM_BITS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "BF16": lambda bits: (bits.astype(np.uint32) << 16).view(np.float32),
    "F8_E4M3": _from_e4m3,
    "F8_E5M2": lambda bits: (bits.astype(np.uint16) << 8).view(np.float16),
}


def _are_counts(values: Any, least: int) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= least for value in values)


def _are_texts(metadata: Any) -> bool:
    return isinstance(metadata, dict) and all(isinstance(text, str) and is_unicode(text) for text in metadata.values())


def _short(value: Any) -> str:
    return one_line(repr(value), 60)
