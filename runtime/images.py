"""Decoded tensors to pictures and files."""

import os
import tempfile
from collections.abc import Callable
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
    known = Image.registered_extensions()
    if path.suffix.lower() not in known:
        raise InputError(
            f"{path}: expected a picture name such as a.png, a.jpg or a.webp, got {path.suffix or 'no suffix'!r}"
        )
    check_folder_of(path)


def check_folder_of(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path}: expected a file name, got a folder")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; create it first")


def save_whole(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Calls `write(stream)` on a temporary file beside `path` and renames it, so that no half file stays."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.absolute().parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            write(stream)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: could not be written: {error.strerror or error}") from error
    finally:
        Path(temporary).unlink(missing_ok=True)
