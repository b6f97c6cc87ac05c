"""Pictures as CLIP's vision tower reads them, and torch's own way to scale."""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from ..errors import InputError
from .pictures import MAX_PIXELS


def antialiased(planes: np.ndarray, height: int, width: int) -> np.ndarray:
    """[..., H, W] of uint8 or float32 to float32 [..., height, width]; half-pixel centres, no rounding, no clamping."""
    narrowed = _scaled_rows(planes, width)
    return np.ascontiguousarray(np.swapaxes(_scaled_rows(np.swapaxes(narrowed, -1, -2), height), -1, -2))


def _scaled_rows(planes: np.ndarray, length: int) -> np.ndarray:
    places, weights = _taps(planes.shape[-1], length)
    total = np.zeros((*planes.shape[:-1], length), np.float32)
    for place, weight in zip(places, weights, strict=True):
        # torch multiplies and adds in one rounding; a product of two float32 is exact in double precision.
        total = (planes[..., place] * weight.astype(np.float64) + total).astype(np.float32)
    return total


def _taps(given: int, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """For every wanted pixel the given pixels it is the mean of, and their weights, both [taps, wanted]."""
    half = np.float32(0.5)
    scale = np.float32(given) / np.float32(wanted)
    reach = max(scale, np.float32(1))
    centres = scale * (np.arange(wanted, dtype=np.float32) + half)
    first = np.maximum((centres - reach + half).astype(np.int64), 0)
    end = np.minimum((centres + reach + half).astype(np.int64), given)
    places = first + np.arange((end - first).max())[:, None]
    distances = np.abs((places.astype(np.float32) - centres + half) * (np.float32(1) / reach))
    weights = np.where(places < end, np.maximum(1 - distances, np.float32(0)), np.float32(0))
    return np.minimum(places, given - 1), weights / np.add.accumulate(weights)[-1]


MEAN = np.asarray([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.asarray([0.26862954, 0.26130258, 0.27577711], np.float32)


def clip_pixels(pictures: Sequence[Image.Image], size: int) -> np.ndarray:
    """RGB pictures to float32 [n, 3, size, size], in the way of transformers' CLIPImageProcessor on Pillow.

    The shorter edge becomes `size` (bicubic), the middle square is kept. Raises InputError for no picture, or for one
    so narrow that the longer edge would pass every bound.
    """
    if not pictures:
        raise InputError("image: expected at least one picture, got none; give one")
    return np.stack([normalised(_middle(picture, size, lambda spare: spare // 2)) for picture in pictures])


def openai_clip_pixels(picture: Image.Image, size: int) -> np.ndarray:
    """A picture of any mode of 8 bits to float32 [3, size, size], in the way of OpenAI's own preparation.

    It is torchvision's on Pillow: scaled and cut as `clip_pixels` does it, with half a pixel rounded to the even side,
    and converted to RGB then. Pillow scales palettes without a mean of their colours, and transparency with one that
    is weighted by it. Raises InputError as `clip_pixels` does.
    """
    return normalised(_middle(picture, size, lambda spare: round(spare / 2)).convert("RGB"))


def squashed(picture: Image.Image, size: int) -> np.ndarray:
    """An RGB picture to float32 [3, size, size], whole: the sides' ratio is not kept (bicubic)."""
    # Newer Pillows begin with whichever side costs less, and round differently; all older ones begin with the width.
    narrowed = picture.resize((size, picture.height), Image.Resampling.BICUBIC)
    return normalised(narrowed.resize((size, size), Image.Resampling.BICUBIC))


def normalised(picture: Image.Image) -> np.ndarray:
    """An RGB picture to float32 [3, H, W] in CLIP's units."""
    levels = np.asarray(picture, np.float32) / np.float32(255.0)
    return np.ascontiguousarray(((levels - MEAN) / STD).transpose(2, 0, 1))


def _middle(picture: Image.Image, size: int, first: Callable[[int], int]) -> Image.Image:
    """The middle square, `first(spare)` pixels from the edge, of a picture whose shorter edge became `size`."""
    width, height = picture.size
    short, long = min(width, height), max(width, height)
    # The longer edge loses its fraction.
    length = int(size * long / short)
    if size * length > MAX_PIXELS:
        raise InputError(f"image: expected sides of like length, got {width}x{height}; cut out the part that counts")
    edges = (size, length) if width <= height else (length, size)
    left, top = (first(edge - size) for edge in edges)
    scaled = picture.resize(edges, Image.Resampling.BICUBIC)
    return scaled.crop((left, top, left + size, top + size))
