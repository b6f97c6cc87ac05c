"""Pictures a caller gives, from a file or from memory, as upright 8-bit RGB; or one line that says why not."""

import os
import struct
import warnings
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import InputError, reason
from ..files.reading import open_given

PictureSource = str | Path | Image.Image | np.ndarray
QUIET = Lock()
"""The filters of warnings are the whole process's: of two threads that change them, one would keep the other's."""
MAX_PIXELS = 100_000_000
"""Largest picture that is decoded: 100 megapixels are 300 MB of RGB, several times over while it is prepared."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
"""What is opened; Pillow knows more, some of which starts other programs (EPS) or has no pixels of its own (WMF)."""
# Decoders raise whatever the damaged bytes happen to run into.
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    AttributeError,
    AssertionError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
)
ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Picture:
    """`image` is 8-bit RGB, or as stored where that was asked for; `notes` are warnings, one line each; `turned` says
    whether its EXIF tag turned it."""

    image: Image.Image
    notes: tuple[str, ...] = ()
    turned: bool = False


def open_picture(source: PictureSource, name: str, as_stored: bool = False) -> Picture:
    """A picture from a file, a PIL image, or an array: uint8 [H, W], [H, W, 1], [H, W, 3], [H, W, 4] or bool [H, W].

    Turned upright by its EXIF tag; of an animation the first frame; 16 bits cut to 8; transparency dropped, with a
    note, so that the colours stored underneath count (as ELITE's authors read files). With `as_stored` it keeps
    Pillow's mode where that has 8 bits or fewer (grey, palette, transparency, CMYK), for those who scale it so and
    convert it then. `name` is the option's name for messages. Raises InputError, one line, for whatever is no such
    picture or has more than MAX_PIXELS.
    """
    if isinstance(source, str | os.PathLike):
        return _from_file(Path(source), f"{name} {source}", as_stored)
    if isinstance(source, Image.Image):
        return _decoded(source, name, as_stored)
    if isinstance(source, np.ndarray):
        return _decoded(_from_array(source, name), name, as_stored)
    raise InputError(f"{name}: expected a file name, a PIL image or a uint8 array, got {type(source).__name__}")


def several(given: PictureSource | Sequence[PictureSource] | None) -> Sequence[PictureSource]:
    """One picture or many as a sequence; none as an empty one."""
    if given is None:
        return ()
    return given if isinstance(given, Sequence) and not isinstance(given, str | bytes) else (given,)


def stand_in_picture() -> np.ndarray:
    """A gradient, uint8 [300, 300, 3], where any picture will do."""
    ramp = np.linspace(0, 255, 300).astype(np.uint8)
    return np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], np.uint8(90)), -1)


def stand_in_mask() -> np.ndarray:
    """A white square in the middle of black, uint8 [300, 300]."""
    mask = np.zeros((300, 300), np.uint8)
    mask[60:240, 60:240] = 255
    return mask


def open_pictures(sources: Iterable[tuple[PictureSource, str]]) -> list[Picture]:
    """Each (source, name) by `open_picture`; raises InputError with a line for every picture at fault."""
    pictures: list[Picture] = []
    problems: list[str] = []
    for source, name in sources:
        try:
            pictures.append(open_picture(source, name))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(*problems)
    return pictures


def _from_file(path: Path, where: str, as_stored: bool) -> Picture:
    with open_given(path, where, "a picture file") as stream, QUIET, warnings.catch_warnings():
        # Pillow warns of what is refused or drawn here anyway.
        warnings.simplefilter("ignore")
        with opened_picture(stream, where) as image:
            return _decoded(image, where, as_stored)


def opened_picture(stream: BinaryIO, where: str) -> Image.Image:
    """A picture whose pixels are not decoded yet. Raises InputError, one line, for what is none of FORMATS."""
    Image.init()
    known = [name for name in FORMATS if name in Image.OPEN]
    try:
        return Image.open(stream, formats=known)
    except UnidentifiedImageError as error:
        listed = ", ".join(known)
        raise InputError(f"{where}: expected a picture ({listed}), got none of these; convert it to PNG") from error
    except Image.DecompressionBombError as error:
        raise _too_large(where, "more") from error
    except DAMAGE as error:
        raise damaged_picture(where, error) from error


def _from_array(array: np.ndarray, where: str) -> Image.Image:
    channels = array.shape[2] if array.ndim == 3 else 1
    grey = array.ndim == 2 or channels == 1
    fits = array.ndim in (2, 3) and channels in (1, 3, 4) and 0 not in array.shape
    if not fits or not (array.dtype == np.uint8 or (array.dtype == np.bool_ and grey)):
        raise InputError(
            f"{where}: expected uint8 [height, width, 3], or [height, width] for grey, 0 is black and 255 white, "
            f"got {array.dtype} {list(array.shape)}; convert the array"
        )
    pixels = array.reshape(array.shape[:2]) if grey else array
    return Image.fromarray(np.ascontiguousarray(pixels * np.uint8(255) if pixels.dtype == np.bool_ else pixels))


def check_pixels(image: Image.Image, where: str) -> None:
    """Raises InputError for a picture without pixels, or with more than MAX_PIXELS, before they are decoded: a small
    file can hold a picture that fills the memory."""
    width, height = image.size
    if width < 1 or height < 1:
        raise InputError(f"{where}: expected a picture with pixels, got {width}x{height}; give another")
    if width * height > MAX_PIXELS:
        raise _too_large(where, f"{width}x{height}")


def _decoded(image: Image.Image, where: str, as_stored: bool) -> Picture:
    check_pixels(image, where)
    try:
        image.load()
        upright = _upright(image)
    except Image.DecompressionBombError as error:
        raise _too_large(where, "more") from error
    except DAMAGE as error:
        raise damaged_picture(where, error) from error
    return replace(_converted(upright, image.format, where, as_stored), turned=upright is not image)


def _upright(image: Image.Image) -> Image.Image:
    turn = UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
    return image if turn is None else image.transpose(turn)


def _converted(image: Image.Image, form: str | None, where: str, as_stored: bool) -> Picture:
    mode = image.mode
    # Older Pillows widen the 16 bits of these formats to 32.
    if mode.startswith("I;16") or (mode == "I" and form in ("PNG", "PPM")):
        return Picture(Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB"))
    if mode in ("I", "F", "LAB"):
        raise InputError(f"{where}: expected 8 or 16 bits a channel, grey or RGB, got Pillow's mode {mode}; convert it")
    if not image.has_transparency_data:
        return Picture(image.copy() if as_stored else image.convert("RGB"))
    rgba = (image.convert("LA") if mode == "La" else image).convert("RGBA")
    share = float((np.asarray(rgba.getchannel("A")) < 255).mean())
    note = f"{where}: {max(share, 0.01):.0%} of it is not opaque; "
    if as_stored:
        note += "scaled, what is transparent may turn black: flatten it"
        # Pillow scales none of these in their own mode, or converts them to nothing else.
        kept = rgba if mode in ("PA", "La", "RGBa") else image.copy()
        # It is told, and Pillow would warn of a palette's when that is converted.
        kept.info.pop("transparency", None)
        return Picture(kept, (note,) if share else ())
    note += "the colours stored underneath count as if they were seen: flatten it, or if it is a cut-out and a mask is "
    note += "taken, give its alpha channel as the mask"
    return Picture(rgba.convert("RGB"), (note,) if share else ())


def _too_large(where: str, got: str) -> InputError:
    return InputError(f"{where}: expected at most {MAX_PIXELS // 10**6} million pixels, got {got}; scale it down")


def damaged_picture(where: str, error: BaseException) -> InputError:
    """What is raised for a picture at whose bytes a decoder failed."""
    return InputError(f"{where}: expected a whole picture, got a damaged one ({reason(error)}); save it again")
