"""Decoded tensors to pictures and files."""

import os
import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from .errors import InputError


def to_uint8(decoded: np.ndarray, rounding: str) -> np.ndarray:
    """float [B, 3, H, W] in -1..1 to uint8 [B, H, W, 3].

    "truncate" drops the fraction as the CompVis scripts do; "round" takes the nearest level as diffusers does.
    """
    levels = np.clip((decoded.astype(np.float32) + 1.0) / 2.0, 0.0, 1.0) * np.float32(255.0)
    if rounding == "round":
        levels = levels.round()
    return levels.astype(np.uint8).transpose(0, 2, 3, 1)


def to_images(decoded: np.ndarray, rounding: str) -> list[Image.Image]:
    return [Image.fromarray(pixels) for pixels in to_uint8(decoded, rounding)]


def check_picture_path(path: Path) -> None:
    """Raises InputError when a picture could not be written there, before any work is done."""
    try:
        save_picture(Image.new("RGB", (8, 8)), path.suffix, BytesIO())
    except (KeyError, ValueError, OSError) as error:
        # Pillow opens more formats than it writes, and some only with a library that is not there.
        got = path.suffix or "no suffix"
        raise InputError(f"{path}: expected a picture name such as a.png, a.jpg or a.webp, got {got!r}") from error
    check_folder_of(path)


def save_picture(image: Image.Image, suffix: str, stream: BinaryIO) -> None:
    """Writes a picture in the format of a file name's suffix."""
    image.save(stream, format=Image.registered_extensions()[suffix.lower()])


def check_folder_of(path: Path) -> None:
    """Raises InputError where a file could not be written, before any work is done."""
    if path.is_dir():
        raise InputError(f"{path}: expected a file name, got a folder")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; create it first")
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"{path}: could not be written: {error.strerror or error}; choose another folder") from error


def save_whole(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Calls `write(stream)` on a temporary file beside `path` and renames it, so that no half file stays."""
    folder = path.absolute().parent
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=folder)
    except OSError as error:
        raise InputError(f"{path}: could not be written: {error.strerror or error}") from error
    try:
        with os.fdopen(handle, "wb") as stream:
            write(stream)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: could not be written: {error.strerror or error}") from error
    finally:
        Path(temporary).unlink(missing_ok=True)
