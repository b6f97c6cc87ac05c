"""Uploaded pictures before they are read as those of a run: how large they are, and what a mask marks.

What is no picture passes: whoever reads it as one says what is wrong with it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

from PIL import Image

from ...errors import InputError
from ...media.pictures import DAMAGE, opened_picture

HALF = 128
"""Alpha below it counts as transparent."""
UNREADABLE = (*DAMAGE, Image.DecompressionBombError)


@contextmanager
def _opened(blob: bytes) -> Iterator[Image.Image | None]:
    """A picture of which no more than its header is decoded; None for whatever is none."""
    try:
        image = opened_picture(BytesIO(blob), "picture")
    except InputError:
        yield None
        return
    with image:
        yield image


def picture_pixels(blob: bytes) -> int:
    """How many a picture's header tells of; 0 where it is no picture."""
    with _opened(blob) as image:
        return 0 if image is None else image.width * image.height


def marked_where_transparent(blob: bytes) -> tuple[bytes, bool]:
    """OpenAI's mask as the options of a run have it: as PNG, white where it was transparent and black elsewhere, and
    True. One without transparency as it is, and False."""
    with _opened(blob) as image:
        if image is None or not image.has_transparency_data:
            return blob, False
        try:
            alpha, exif = image.convert("RGBA").getchannel("A"), image.getexif()
        except UNREADABLE:
            return blob, False
    stream = BytesIO()
    alpha.point(lambda level: 255 if level < HALF else 0).save(stream, "PNG", exif=exif)
    return stream.getvalue(), True
