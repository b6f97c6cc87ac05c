"""The regions that a caller gives: colours of a painted map with their words, or masks, each with its own."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import InputError
from ..files.reading import parse_json
from ..media.pictures import PictureSource, open_picture
from .region import Colour, RegionFile, RegionWords, colour_of, parse_region, words_of

HALF = 128
"""A mask counts where it is at least this bright."""
MOST_REGIONS = 64
TOLD_COLOURS = 3
"""Of those without a word, that a message names."""


@dataclass(frozen=True, slots=True)
class Region:
    """`inside` is bool [H, W]; `name` is what messages call it."""

    name: str
    inside: np.ndarray
    words: RegionWords


def map_regions(source: PictureSource, given: Any, notes: list[str]) -> list[Region]:
    """The regions of a painted map, in the order of its words. Raises InputError for a colour without words."""
    words = colour_words(given)
    opened = open_picture(source, "paint")
    notes += opened.notes
    pixels = np.asarray(opened.image, np.uint32)
    codes = pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]
    there = dict(zip(*(found.tolist() for found in np.unique(codes, return_counts=True)), strict=True))
    if unnamed := {code: count for code, count in there.items() if code not in words}:
        raise InputError(_unnamed(unnamed, codes.size))
    notes += [
        f"paint: {_hex(code)} is nowhere in the map; {own.label!r} is not painted by it"
        for code, own in words.items()
        if own is not None and code not in there
    ]
    return [
        Region(f"paint: {_hex(code)}", codes == code, own)
        for code, own in words.items()
        if own is not None and code in there
    ]


def colour_words(given: Any) -> dict[int, RegionWords | None]:
    """Each colour's words, in their order; None for one that stands for nothing. Raises InputError."""
    if isinstance(given, str):
        given = parse_json(given, "paint_words")
    if not isinstance(given, Mapping) or not given:
        raise InputError("paint_words: expected colours with their words, as in {'#13ff00': 'tree,1.5'}, got none")
    if len(given) > MOST_REGIONS:
        raise InputError(f"paint_words: expected at most {MOST_REGIONS} colours, got {len(given)}; paint fewer")
    found, problems = dict[int, RegionWords | None](), list[str]()
    for key, value in given.items():
        try:
            code = _code(colour_of(key))
            own = None if value is None else words_of(value)
        except InputError as error:
            problems += [f"paint_words: {problem}" for problem in error.problems]
            continue
        if code in found:
            problems.append(f"paint_words: expected each colour once, got {_hex(code)} twice; leave one out")
        found[code] = own
    if problems:
        raise InputError(*problems)
    return found


def mask_regions(given: Any, notes: list[str]) -> list[Region]:
    """The regions of masks, in their order. Raises InputError."""
    found, problems = list[Region](), list[str]()
    for number, each in enumerate(several_regions(given)):
        name = f"regions[{number}]"
        try:
            source, words = _mask_words(each)
            opened = open_picture(source, name)
        except InputError as error:
            problems += [line if line.startswith(name) else f"{name}: {line}" for line in error.problems]
            continue
        notes += opened.notes
        found.append(Region(name, np.asarray(opened.image.convert("L")) >= HALF, words))
    if problems:
        raise InputError(*problems)
    return found


def several_regions(given: Any) -> Sequence[Any]:
    """One region or many as a sequence; none as an empty one."""
    if given is None:
        return ()
    alone = isinstance(given, str | RegionFile) or (
        isinstance(given, tuple)
        and len(given) > 1
        and isinstance(given[1], str | RegionWords | Mapping)
        and not isinstance(given[0], tuple)
        and not (isinstance(given[0], str) and ":" in given[0])
    )
    return [given] if alone or not isinstance(given, list | tuple) else given


def region_texts(given: Any) -> list[Any]:
    """Each region as the command line spells it; a mask from memory as it is."""
    texts = list[Any]()
    for each in several_regions(given):
        source, words = _mask_words(each)
        if not isinstance(source, str | os.PathLike):
            texts.append(source)
            continue
        seed = [] if words.seed is None and words.blur is None else [-1 if words.seed is None else words.seed]
        numbers = [f"{words.weight:g}", *map(str, seed), *([] if words.blur is None else [f"{words.blur:g}"])]
        texts.append(":".join([os.fspath(source), words.label, *numbers]))
    return texts


def _mask_words(given: Any) -> tuple[PictureSource, RegionWords]:
    """A region's mask and words: `mask.png:cat:1.2`, or a mask in front of what `words_of` takes in a list."""
    if isinstance(given, str):
        given = parse_region(given)
    if isinstance(given, RegionFile):
        return given.path, given.words
    if isinstance(given, list | tuple) and len(given) > 1:
        source, *rest = given
        if isinstance(source, str | os.PathLike | Image.Image | np.ndarray):
            mask = Path(source) if isinstance(source, os.PathLike) else source
            return mask, words_of(rest[0] if len(rest) == 1 else rest)
    raise InputError(f"expected (mask, words, weight) or a text such as mask.png:cat:1.2, got {type(given).__name__}")


def _unnamed(counts: Mapping[int, int], pixels: int) -> str:
    """Of colours without words, those that cover most."""
    largest = sorted(counts, key=lambda code: -counts[code])
    told = ", ".join(f"{_hex(code)} ({counts[code] / pixels:.1%} of the map)" for code in largest[:TOLD_COLOURS])
    more = f" and {len(largest) - TOLD_COLOURS} more" if len(largest) > TOLD_COLOURS else ""
    return (
        f"paint: expected words for every colour of the map, got none for {told}{more}; add them, null for one that "
        "stands for nothing, and save the map without smooth edges, as PNG"
    )


def _code(colour: Colour) -> int:
    red, green, blue = colour
    return red << 16 | green << 8 | blue


def _hex(code: int) -> str:
    return f"#{code:06x}"
