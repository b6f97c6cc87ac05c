"""The independent judge of a drawing: which of the 64 pictures is nearest, and which of the 8 colours is behind it."""

from dataclasses import dataclass

import numpy as np

from .vocabulary import CANVAS, backgrounds, on_colour, picture_keys, pictures

BORDER = 4
BLUR = 2


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a drawing shows: picture and background by their keys."""

    key: str
    background: str


def judge(image: np.ndarray) -> Verdict:
    """Names a drawing, uint8 [64, 64, 3].

    The background is the named colour nearest to the border's median. The picture is the one whose rendering on that
    very median is nearest in mean squared error, both averaged over 2 x 2 pixels; so a wrong background does not
    change which picture is seen, and a wrong picture does not change the background.
    """
    return Verdict(picture_keys()[nearest_picture(image, pictures())], nearest_background(image))


def nearest_picture(image: np.ndarray, tiles: np.ndarray) -> int:
    """Which of `tiles` (uint8 RGBA [n, 52, 52, 4]) a drawing shows, by the rule of `judge`."""
    references = blurred(on_colour(tiles, behind(image)).astype(np.float32))
    errors = ((references - blurred(image[None].astype(np.float32))) ** 2).mean((1, 2, 3))
    return int(errors.argmin())


def nearest_background(image: np.ndarray) -> str:
    """Key of the named colour behind a drawing, by the rule of `judge`."""
    colours = np.asarray([background.rgb for background in backgrounds()], np.float32)
    return backgrounds()[((colours - behind(image)) ** 2).sum(1).argmin()].key


def behind(image: np.ndarray) -> np.ndarray:
    """The colour behind a drawing, uint8 [64, 64, 3]: the median of its border, float32 [3]."""
    assert image.shape == (CANVAS, CANVAS, 3) and image.dtype == np.uint8, (image.shape, image.dtype)
    return np.median(_border(image.astype(np.float32)), axis=0)


def _border(image: np.ndarray) -> np.ndarray:
    """The pixels of a frame BORDER wide, [n, 3]; no picture of the vocabulary reaches it."""
    inside = np.zeros(image.shape[:2], bool)
    inside[BORDER:-BORDER, BORDER:-BORDER] = True
    return image[~inside]


def blurred(images: np.ndarray) -> np.ndarray:
    """Images [n, H, W, 3] as the means of their BLUR x BLUR squares."""
    n, height, width, channels = images.shape
    return images.reshape(n, height // BLUR, BLUR, width // BLUR, BLUR, channels).mean((2, 4))
