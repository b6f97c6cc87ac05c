"""Subjects that no training stage of the ELITE relatives has seen: 64 pictures apart from the vocabulary.

Needs numpy and Pillow only: the pictures are a committed atlas, the names and code points a committed list.
"""

import json
from functools import cache

import numpy as np
from PIL import Image

from .judge import Verdict, nearest_background, nearest_picture
from .vocabulary import HERE, atlas_tiles, backgrounds, on_colour, placed

SOLID = 128
"""Opacity from which a pixel belongs to the subject's mask."""


@cache
def _entries() -> list[dict[str, str]]:
    return json.loads((HERE / "subjects.json").read_text(encoding="utf-8"))


def subject_keys() -> tuple[str, ...]:
    """Names of the held-out pictures, in atlas order."""
    return tuple(entry["key"] for entry in _entries())


@cache
def characters() -> frozenset[str]:
    """The held-out characters, which training leaves out."""
    return frozenset(chr(int(entry["code"], 16)) for entry in _entries())


@cache
def _tiles() -> np.ndarray:
    return atlas_tiles(HERE / "subjects.png", len(_entries()))


def subject_picture(key: str) -> Image.Image:
    """One held-out picture on a transparent ground, RGBA 52 x 52."""
    return Image.fromarray(_tiles()[subject_keys().index(key)])


def subject_scene(key: str, background: str) -> np.ndarray:
    """The held-out picture centred on a named background: uint8 [64, 64, 3]."""
    colour = next(entry.rgb for entry in backgrounds() if entry.key == background)
    return on_colour(np.asarray(subject_picture(key))[None], np.asarray(colour, np.float32))[0]


def subject_mask(key: str) -> np.ndarray:
    """Where `subject_scene` shows the subject: uint8 [64, 64, 3], 255 on it and 0 elsewhere."""
    solid = placed(np.asarray(subject_picture(key))[..., 3]) >= SOLID
    return np.repeat(np.where(solid, np.uint8(255), np.uint8(0))[..., None], 3, -1)


def judge_subject(image: np.ndarray) -> Verdict:
    """Names a drawing, uint8 [64, 64, 3], by the rule of `judge`, among the held-out pictures."""
    return Verdict(subject_keys()[nearest_picture(image, _tiles())], nearest_background(image))
