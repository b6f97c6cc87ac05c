"""The one reader of files that others wrote: regular files alone, within a size, and JSON within a depth and numbers
that a machine holds."""

import json
import math
import os
import stat
import zipfile
import zlib
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, BinaryIO

import numpy as np

from ..errors import InputError, one_line, reason

SMALL_FILE_BYTES = 64_000_000
"""What a manifest, a record, a profile or a cache may have; the largest that is known, a manifest, has 0.2 MB."""
ARRAY_BYTES = 4_000_000_000
"""What a `.npy` file may have."""
JSON_LEVELS = 64
"""Objects and arrays inside one another; a manifest has 9."""
_LARGEST_WHOLE = 2**63


def open_given(path: Path, where: str, kind: str, most: int | None = None) -> BinaryIO:
    """The file's bytes. `where` begins every message, `kind` says what was expected, such as "a picture file"; `most`
    is the largest size in bytes.

    Raises InputError where nothing, a folder, a pipe or a device is, or what may not be read.
    """
    try:
        # A pipe without a writer would be waited for, where it is not opened so.
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError as error:
        raise InputError(f"{where}: expected {kind}, got nothing of that name; check the path") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{where}: expected a readable file, got {reason(error)}; check its permissions") from error
    found = os.fstat(number)
    problem = ""
    if not stat.S_ISREG(found.st_mode):
        problem = f"expected {kind}, got a folder or a device; name the file itself"
    elif most is not None and found.st_size > most:
        sizes = f"at most {most / 1e6:.0f} MB, got {found.st_size / 1e6:.0f} MB"
        problem = f"expected {kind} of {sizes}; check the path"
    if problem:
        os.close(number)
        raise InputError(f"{where}: {problem}")
    return open(number, "rb")


def read_bytes(path: Path, where: str, kind: str, most: int = SMALL_FILE_BYTES) -> bytes:
    """The whole of a small file. Raises InputError as `open_given` does, and where it cannot be read to its end."""
    with open_given(path, where, kind, most) as stream:
        try:
            return stream.read(most + 1)
        except OSError as error:
            raise InputError(f"{where}: expected a readable file, got {reason(error)}; check the disk") from error


def read_text(path: Path, where: str, kind: str, most: int = SMALL_FILE_BYTES) -> str:
    """The text of a small file in UTF-8. Raises InputError for other bytes too."""
    try:
        return read_bytes(path, where, kind, most).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: expected {kind}, got bytes that are no UTF-8 text; make it again") from error


def read_json_file(path: Path, where: str, kind: str, most: int = SMALL_FILE_BYTES) -> Any:
    """The values in a small JSON file. Raises InputError as `read_text` and `parse_json` do."""
    return parse_json(read_text(path, where, kind, most), where)


def parse_json(text: str, where: str) -> Any:
    """The values of a JSON text, read strictly: no key twice, no NaN or infinity, no whole number beyond 64 bits, no
    half of a surrogate pair, at most JSON_LEVELS inside one another. Raises InputError."""
    try:
        data = json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_int)
        _check_values(data)
    except RecursionError as error:
        raise InputError(f"{where}: {_TOO_DEEP}") from error
    except ValueError as error:
        raise InputError(f"{where}: expected JSON, got a damaged file ({reason(error)}); make it again") from error
    return data


_TOO_DEEP = f"expected at most {JSON_LEVELS} levels of values inside one another, got more; make it again"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {one_line(twice, 60)!r} twice")
    return found


def _constant(name: str) -> Any:
    raise ValueError(f"{name}, which is no number in JSON")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"a number too large, {one_line(text, 60)}")
    return value


def _int(text: str) -> int:
    if len(text) > 20 or not -_LARGEST_WHOLE <= (value := int(text)) < _LARGEST_WHOLE:
        raise ValueError(f"a whole number beyond 64 bits, {one_line(text, 60)}")
    return value


def _check_values(data: Any) -> None:
    """Level by level, so that no depth can exhaust the stack."""
    level, depth = [data], 0
    while level:
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below += [*value.keys(), *value.values()]
            elif isinstance(value, list):
                below += value
            elif isinstance(value, str) and not value.isascii() and not is_unicode(value):
                raise ValueError("half of a surrogate pair, which is no character")
        depth += any(isinstance(value, dict | list) for value in level)
        if depth > JSON_LEVELS:
            raise ValueError(_TOO_DEEP)
        level = below


def is_unicode(text: str) -> bool:
    """Whether a text can be written: half of a surrogate pair, as from a terminal in another encoding, cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def read_array(path: Path, kind: str, where: str = "") -> np.ndarray:
    """The array of a `.npy` file, whose header must promise just what the file holds. Nothing is allocated before that
    is known. Raises InputError."""
    where = where or str(path)
    with open_given(path, where, kind, ARRAY_BYTES) as stream:
        try:
            return _npy_array(stream, os.fstat(stream.fileno()).st_size)
        except (OSError, ValueError, EOFError, MemoryError) as error:
            raise InputError(f"{where}: expected {kind}, got {reason(error)}; write it with numpy.save") from error


_ARCHIVE_ERRORS = (
    *(OSError, ValueError, EOFError, MemoryError, KeyError),
    *(zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError),
)
"""What a damaged archive raises: the last two for a way of packing, or a cipher, that nothing here undoes."""


def read_arrays(path: Path, kind: str, where: str = "") -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file by their names. Raises InputError, also where they unpack to more than
    ARRAY_BYTES."""
    where = where or str(path)
    with open_given(path, where, kind, ARRAY_BYTES) as stream:
        try:
            with zipfile.ZipFile(stream) as packed:
                unpacked = sum(entry.file_size for entry in packed.infolist())
                if unpacked > ARRAY_BYTES:
                    raise ValueError(f"{unpacked} bytes unpacked, at most {ARRAY_BYTES} are read")
                return {entry.filename.removesuffix(".npy"): _packed(packed, entry) for entry in packed.infolist()}
        except _ARCHIVE_ERRORS as error:
            raise InputError(f"{where}: expected {kind}, got {reason(error)}; write it with numpy.savez") from error


def _packed(packed: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    with packed.open(entry) as stream:
        try:
            return _npy_array(stream, entry.file_size)
        except ValueError as error:
            raise ValueError(f"in {one_line(entry.filename, 60)} {error}") from error


def _npy_array(stream: IO[bytes], size: int) -> np.ndarray:
    """The array of a `.npy` file of so many bytes. Raises ValueError where its header promises another."""
    shape, dtype = _npy_header(stream)
    held = size - stream.tell()
    if math.prod(shape) * dtype.itemsize != held:
        raise ValueError(f"{held} bytes where its header promises {dtype} {one_line(str(list(shape)), 100)}")
    stream.seek(0)
    array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def _npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        version = np.lib.format.read_magic(stream)
        shape, _, dtype = readers[version](stream)
    except (KeyError, ValueError, SyntaxError, TypeError, RecursionError, TokenError) as error:
        # Headers are Python's literals, and what is none is told in Python's words.
        raise ValueError("a header that numpy.save does not write") from error
    if dtype.hasobject or min(shape, default=0) < 0:
        raise ValueError("objects" if dtype.hasobject else f"the shape {shape}")
    return shape, dtype
