"""Digests of what a run was given beside its prompt: pictures, sounds and arrays, as files or from memory."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..files.reading import open_given
from ..inputs.option import NAMED_IN_TEXT, Option
from ..media.parameters import GivenFile

SHARE_AXES = {"noise": (0, 4), "tokens": (0, 3)}
"""Of arrays that may hold one entry for each picture: the axis, and the axes that they then have."""
BLOCK = 2**20
"""Bytes of a file that are read at once."""
OF_DRAWS = 1
"""That axis in recorded draws by their names."""


def given_files(option: Option, value: Any, share: int | None = None) -> tuple[GivenFile, ...]:
    """A file for each value of the option; `share` is what `cut_share` cut it by. Raises InputError for a file that
    cannot be read any more."""
    if option.spelled is not None:
        value = option.spelled(value)
    if option.form == "weights" and isinstance(value, Mapping):
        value = [f"{name}={path}" for name, path in value.items()]
    each = value if option.several and isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return tuple(replace(_given_file(option, one), share=share) for one in each)


def has_shares(name: str, value: Any) -> bool:
    """Whether a value of an option holds one entry for each of several pictures."""
    if name == "noise" and isinstance(value, Mapping):
        return any(draws.shape[OF_DRAWS] > 1 for draws in value.values())
    axis, axes = SHARE_AXES.get(name, (0, 0))
    return isinstance(value, np.ndarray) and value.ndim == axes and value.shape[axis] > 1


def cut_share(name: str, value: Any, number: int) -> Any:
    """What of a value with shares is the picture's of this number, in the same form."""
    if isinstance(value, Mapping):
        return {key: draws[:, number : number + 1] for key, draws in value.items()}
    return value[number : number + 1]


def plain_name(path: Path) -> str:
    """The last part of a path, as text that can be written: what is no Unicode becomes question marks."""
    return path.name.encode("utf-8", "replace").decode()


def _given_file(option: Option, value: Any) -> GivenFile:
    if isinstance(value, str | os.PathLike):
        path = option.locate(os.fspath(value))
        if path is None:
            return GivenFile(_digest([os.fspath(value).encode("utf-8", "replace")]), os.fspath(value))
        with open_given(path, f"{option.name} {path}", "a file") as stream:
            # What else the text says stays beside the file's name.
            said = (
                os.fspath(value).replace(str(path), plain_name(path))
                if option.form in NAMED_IN_TEXT
                else plain_name(path)
            )
            return GivenFile(_digest(iter(partial(stream.read, BLOCK), b"")), said)
    return GivenFile(_digest(_parts(value)))


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _parts(value: Any) -> Sequence[bytes]:
    """All that makes a value what it is."""
    if isinstance(value, Image.Image):
        colours = value.getpalette()
        return [f"{value.mode} {value.size} {colours}".encode(), value.tobytes()]
    if isinstance(value, Mapping):
        return [part for name in sorted(value) for part in (str(name).encode(), *_parts(value[name]))]
    if isinstance(value, tuple | list):
        return [part for one in value for part in _parts(one)]
    array = np.asarray(value)
    return [f"{array.dtype.str} {array.shape}".encode(), array.tobytes()]
