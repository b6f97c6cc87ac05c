"""Pictures as files, with what they were drawn from: written and read.

A PNG has two international texts (iTXt): `parameters`, the text that AUTOMATIC1111 writes, and `x2i`, the JSON. JPEG,
WebP, AVIF and TIFF have both in their EXIF: the text in UserComment, in UTF-16 as AUTOMATIC1111 writes it, the JSON in
MakerNote, behind `x2i` and a zero. Other formats hold neither.
"""

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from ..errors import InputError
from ..files.reading import open_given
from .parameters import Parameters
from .pictures import DAMAGE, QUIET, check_pixels, damaged_picture, opened_picture

TEXT_KEY, JSON_KEY = "parameters", "x2i"
EXIF_FORMATS = ("JPEG", "WEBP", "AVIF", "TIFF")
EXIF, USER_COMMENT, MAKER_NOTE = 0x8769, 0x9286, 0x927C
UNICODE, ASCII, MARK = b"UNICODE\0", b"ASCII\0\0\0", b"x2i\0"
MOST_CHARACTERS = 1_000_000
"""Of the text or the JSON of one picture; Pillow reads as much of a compressed text."""
MOST_JPEG_EXIF = 65_000
"""Bytes; a segment of a JPEG has 65,533."""


@dataclass(frozen=True, slots=True)
class PictureTexts:
    """What a picture says of itself: `text` as AUTOMATIC1111 writes it, `json` as x2i does; None where it has none."""

    text: str | None
    json: str | None


def check_picture_name(path: Path) -> None:
    """Raises InputError for a name whose suffix is no picture's that can be written."""
    try:
        save_picture(Image.new("RGB", (8, 8)), path.suffix, BytesIO())
    except (KeyError, ValueError, OSError) as error:
        # Pillow opens more formats than it writes, and some only with a library that is not there.
        got = path.suffix or "no suffix"
        raise InputError(f"{path}: expected a picture name such as a.png, a.jpg or a.webp, got {got!r}") from error


def save_picture(
    image: Image.Image,
    suffix: str,
    stream: BinaryIO,
    parameters: Parameters | None = None,
    quality: int | None = None,
) -> None:
    """Writes a picture in the format of a file name's suffix, with its parameters where some are given; `quality`, from
    1 to 100, is that of a format which loses some.

    Where the format holds none, or not so many, the picture is written without them, with a warning.
    """
    form = Image.registered_extensions()[suffix.lower()]
    carried = {} if parameters is None else _carried(parameters, form)
    image.save(stream, format=form, **carried, **({} if quality is None else {"quality": quality}))


def read_texts(source: str | Path | BinaryIO) -> PictureTexts:
    """What a picture file, or an open one, says of itself. No pixel is decoded unless texts may follow them. Raises
    InputError for whatever is no picture, and for texts longer than MOST_CHARACTERS."""
    where = _where(source)
    with _opened(source, where) as stream, QUIET, warnings.catch_warnings():
        # Pillow warns of what is refused or left aside here anyway.
        warnings.simplefilter("ignore")
        with opened_picture(stream, where) as image:
            try:
                found = _texts(image)
                if found.text is found.json is None and image.format == "PNG":
                    check_pixels(image, where)
                    image.load()
                    found = _texts(image)
            except DAMAGE as error:
                raise damaged_picture(where, error) from error
    longest = max(len(text or "") for text in (found.text, found.json))
    if longest > MOST_CHARACTERS:
        raise InputError(
            f"{where}: expected parameters of at most {MOST_CHARACTERS} characters, got {longest}; save the picture "
            "without them"
        )
    return found


def read_parameters(source: str | Path | BinaryIO) -> Parameters:
    """What the picture of a file, or of an open one, was drawn from, as x2i wrote it there.

    Raises InputError where it says nothing of that, for whatever is no picture, and for texts that are damaged, longer
    than a million characters or of a newer x2i. No file that it names is opened.
    """
    where, texts = _where(source), read_texts(source)
    if texts.json is None:
        got = "another program's text alone" if texts.text is not None else "a picture without any"
        raise InputError(
            f"{where}: expected the parameters that x2i writes into its pictures, got {got}; give the prompt and the "
            "options yourself (x2i inspect shows what is there)"
        )
    return Parameters.from_json(texts.json, f"{where}: parameters")


def _carried(parameters: Parameters, form: str) -> dict[str, Any]:
    """What Pillow's `save` takes for a format."""
    text, data = parameters.text(), json.dumps(parameters.as_json(), allow_nan=False, ensure_ascii=False)
    if max(len(text), len(data)) > MOST_CHARACTERS:
        return _without(f"at most {MOST_CHARACTERS} characters, got {max(len(text), len(data))}; shorten the prompt")
    if form == "PNG":
        from PIL.PngImagePlugin import PngInfo

        chunks = PngInfo()
        chunks.add_itxt(TEXT_KEY, text)
        chunks.add_itxt(JSON_KEY, data)
        return {"pnginfo": chunks}
    if form not in EXIF_FORMATS:
        return _without(f"a format that holds them, got {form}; write a .png, .jpg or .webp")
    exif = Image.Exif()
    tags = exif.get_ifd(EXIF)
    tags[USER_COMMENT] = UNICODE + text.encode("utf-16-be", "replace")
    tags[MAKER_NOTE] = MARK + data.encode()
    written = exif.tobytes()
    if form == "JPEG" and len(written) > MOST_JPEG_EXIF:
        return _without(f"at most {MOST_JPEG_EXIF} bytes of them in a JPEG, got {len(written)}; write a .png")
    return {"exif": written}


def _without(expected: str) -> dict[str, Any]:
    warnings.warn(f"parameters: left out of the picture: expected {expected}", UserWarning, stacklevel=4)
    return {}


def _where(source: str | Path | BinaryIO) -> str:
    return str(source) if isinstance(source, str | os.PathLike) else "picture"


@contextmanager
def _opened(source: str | Path | BinaryIO, where: str) -> Iterator[BinaryIO]:
    if not isinstance(source, str | os.PathLike):
        yield source
        return
    with open_given(Path(source), where, "a picture file") as stream:
        yield stream


def _texts(image: Image.Image) -> PictureTexts:
    text, data = (image.info.get(key) for key in (TEXT_KEY, JSON_KEY))
    tags = image.getexif().get_ifd(EXIF)
    comment, note = tags.get(USER_COMMENT), tags.get(MAKER_NOTE)
    if not isinstance(text, str) and isinstance(comment, bytes):
        text = _comment(comment)
    if not isinstance(data, str) and isinstance(note, bytes) and note.startswith(MARK):
        data = note.removeprefix(MARK).decode("utf-8", "replace")
    return PictureTexts(*(found if isinstance(found, str) and found else None for found in (text, data)))


def _comment(comment: bytes) -> str | None:
    """The text of a UserComment, which begins with the name of its characters' code."""
    code, text = comment[:8], comment[8:]
    if code == ASCII:
        return text.decode("ascii", "replace")
    if code != UNICODE:
        return None
    # EXIF leaves the order of the bytes open; of Latin letters the higher byte is zero.
    order = "be" if text[0::2].count(0) >= text[1::2].count(0) else "le"
    return text.decode(f"utf-16-{order}", "replace")
