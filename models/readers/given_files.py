"""The room's one reader of small files that others wrote: regular files alone, within a size, and values within a depth
and a number."""

import json
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import CheckpointError

MOST_TEXT_BYTES = 64_000_000
"""Of a JSON or text file; XLM-R's tokenizer, the largest known, has 17 MB."""
MOST_YAML_BYTES = 1_000_000
"""Of a YAML file, which is slow to read; the authors' have 2 kB."""
MOST_LEVELS = 64
"""Sections inside one another."""
MOST_VALUES = 5_000_000
"""In one file. A few lines of YAML can name each other so that they stand for more than any memory holds."""
LARGEST_WHOLE = 10**40
"""Tokenizers without a window have one of 10**30 in their settings."""


def given_text(path: Path, kind: str, most: int = MOST_TEXT_BYTES) -> str:
    """The text of a file in UTF-8; `kind` says what was expected. Raises CheckpointError for everything else: nothing,
    a folder, a pipe, a device, too many bytes, or others than text."""
    try:
        # A pipe without a writer would be waited for, where it is not opened so.
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            found = os.fstat(number)
            if not stat.S_ISREG(found.st_mode):
                raise _refused(path, kind, "a folder, a pipe or a device", "give the file itself")
            if found.st_size > most:
                raise _refused(path, kind, f"{found.st_size} bytes, above the {most} of any", "give the file itself")
            with open(number, "rb", closefd=False) as stream:
                return stream.read(most).decode("utf-8")
        finally:
            os.close(number)
    except UnicodeDecodeError as error:
        raise _refused(path, kind, "bytes that are no UTF-8 text", "download the file again") from error
    except OSError as error:
        raise _refused(path, kind, error.strerror or "a broken disk", "give the folder as it was published") from error
    except ValueError as error:
        if isinstance(error, CheckpointError):
            raise
        raise _refused(path, kind, "a name that no file can have", "check the path") from error


def given_json(path: Path, unset: str = "") -> Any:
    """The values of a JSON file, checked as `checked_values` does; NaN and infinity are refused, save for the one that
    means a bound that is not set: `unset`, such as "-Infinity", is read as None. Raises CheckpointError."""
    text = given_text(path, "a JSON file")
    with _refusing(path, "JSON"):
        return checked_values(json.loads(text, parse_constant=lambda name: None if name == unset else _refuse(name)))


def given_yaml(path: Path, objects: bool = False) -> Any:
    """The values of a YAML file, of plain types alone, checked as `checked_values` does. Tuples are lists; `objects`
    of Python's are read as what they hold, or else refused (see `plain_yaml`). Raises CheckpointError."""
    import yaml

    from .plain_yaml import plain_yaml

    text = given_text(path, "a YAML file", MOST_YAML_BYTES)
    with _refusing(path, "YAML"):
        try:
            return checked_values(plain_yaml(text, objects))
        except yaml.YAMLError as error:
            raise ValueError(" ".join(str(error).split())) from error


def checked_values(data: Any) -> Any:
    """The values, of which there are at most MOST_VALUES on MOST_LEVELS, each number one that a machine holds. Raises
    ValueError. It goes level by level, so that no depth exhausts the stack."""
    level, count = [data], 0
    for _ in range(MOST_LEVELS):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict | list | tuple):
                below += [*value.keys(), *value.values()] if isinstance(value, dict) else value
                if count + len(below) > MOST_VALUES:
                    raise ValueError(f"more than {MOST_VALUES} values")
            elif isinstance(value, float) and not math.isfinite(value):
                raise ValueError("a number that is none, or infinite")
            elif isinstance(value, int) and abs(value) > LARGEST_WHOLE:
                raise ValueError("a whole number beyond 10**40")
        count += len(below)
        if not below:
            return data
        level = below
    raise ValueError(f"values more than {MOST_LEVELS} levels deep")


def _refuse(name: str) -> Any:
    raise ValueError(f"{name}, which is no number in JSON")


@contextmanager
def _refusing(path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except RecursionError as error:
        raise _refused(path, kind, f"values more than {MOST_LEVELS} levels deep", "download the file again") from error
    except ValueError as error:
        raise _refused(path, kind, str(error), "download the file again") from error


def _refused(path: Path, kind: str, got: str, fix: str) -> CheckpointError:
    return CheckpointError(f"{path}: expected {kind}, got {got}; fix: {fix}")
