"""Pictures as CLIP's vision tower reads them."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from .errors import InputError
from .pictures import MAX_PIXELS

MEAN = np.asarray([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.asarray([0.26862954, 0.26130258, 0.27577711], np.float32)


def clip_pixels(pictures: Sequence[Image.Image], size: int) -> np.ndarray:
    """RGB pictures to float32 [n, 3, size, size], in the way of transformers' CLIPImageProcessor on Pillow.

    The shorter edge becomes `size` (bicubic), the middle square is kept. Raises InputError for no picture, or for one
    so narrow that the longer edge would pass every bound.
    """
    if not pictures:
        raise InputError("image: expected at least one picture, got none; give one")
    return np.stack([normalised(_middle(picture, size)) for picture in pictures])


def squashed(picture: Image.Image, size: int) -> np.ndarray:
    """An RGB picture to float32 [3, size, size], whole: the sides' ratio is not kept (bicubic)."""
    # Newer Pillows begin with whichever side costs less, and round differently; all older ones begin with the width.
    narrowed = picture.resize((size, picture.height), Image.Resampling.BICUBIC)
    return normalised(narrowed.resize((size, size), Image.Resampling.BICUBIC))


def normalised(picture: Image.Image) -> np.ndarray:
    """An RGB picture to float32 [3, H, W] in CLIP's units."""
    levels = np.asarray(picture, np.float32) / np.float32(255.0)
    return np.ascontiguousarray(((levels - MEAN) / STD).transpose(2, 0, 1))


def _middle(picture: Image.Image, size: int) -> Image.Image:
    width, height = picture.size
    short, long = min(width, height), max(width, height)
    # The longer edge loses its fraction.
    length = int(size * long / short)
    if size * length > MAX_PIXELS:
        raise InputError(f"image: expected sides of like length, got {width}x{height}; cut out the part that counts")
    edges = (size, length) if width <= height else (length, size)
    left, top = ((edge - size) // 2 for edge in edges)
    scaled = picture.resize(edges, Image.Resampling.BICUBIC)
    return scaled.crop((left, top, left + size, top + size))
