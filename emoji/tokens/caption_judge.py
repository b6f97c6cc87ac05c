"""The judge of a caption: which picture it names, and which colour behind it; and the scenes to be captioned."""

import re
from functools import cache

import numpy as np

from ..world.judge import Verdict
from ..world.vocabulary import backgrounds, picture_keys, scene, vocabulary_table

NOTHING = ""
"""Stands in a verdict for what a caption does not name."""


def held_out(picture: int) -> int:
    """The index of the background on which the captioner's stage never sees a picture: all take turns."""
    return (picture + 4) % len(backgrounds())


def held_out_scenes() -> list[tuple[str, str, np.ndarray]]:
    """Every picture on the background on which it was never seen: both keys, and uint8 [64, 64, 3]."""
    colours = [backgrounds()[held_out(number)].key for number in range(len(picture_keys()))]
    return [(key, colour, scene(key, colour)) for key, colour in zip(picture_keys(), colours, strict=True)]


def judge_caption(text: str) -> Verdict:
    """The picture and the background of an English caption; each is the longest name that stands in it, whole words.

    The background stands before the word itself, so that the red of a red apple is none.
    """
    item, _, ground = text.lower().rpartition(" on a ")
    return Verdict(_longest(item, _pictures()), _longest(ground.removesuffix(" background"), _colours()))


def _longest(text: str, names: dict[str, str]) -> str:
    found = [name for name in names if re.search(rf"\b{re.escape(name)}\b", text)]
    return names[max(found, key=len)] if found else NOTHING


@cache
def _pictures() -> dict[str, str]:
    return {entry["names"]["English"].lower(): entry["key"] for entry in vocabulary_table()["pictures"]}


@cache
def _colours() -> dict[str, str]:
    return {entry["names"]["English"].lower(): entry["key"] for entry in vocabulary_table()["backgrounds"]}
