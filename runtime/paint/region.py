"""What is said of a painted region: its words, how much they count, the seed of its own noise, and how far it blurs."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from ..errors import InputError

NO_SEED = -1
"""What the port writes for a region without a seed."""
MOST_SEED = 2**63 - 1
MOST_WEIGHT = 1000.0
"""Of either sign: published ones lie between 0.2 and 2."""
MOST_BLUR = 1000.0
COLOUR = re.compile(r"#?([0-9a-fA-F]{6})|\(?\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*\)?")
KEYS = ("word", "weight", "seed", "blur")
"""Of a region that is given as an object."""
Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class RegionWords:
    """`label` are words of the prompt; `weight` is how much they count there, below 0 to keep them away. With a `seed`
    the region has noise of its own; `blur` is a Gaussian's deviation in pixels, None for a sharp edge."""

    label: str
    weight: float = 1.0
    seed: int | None = None
    blur: float | None = None


def parse_words(text: str) -> RegionWords:
    """`label,weight`, `label,weight,seed` or `label,weight,seed,blur`, as the port of paint-with-words reads them: a
    seed of -1 is none, a label alone weighs 1, and a label with commas has no seed behind it. Raises InputError.

    A weight needs its decimal point where a seed follows: `boat,2,2077` is seed 2 and blur 2077 there.
    """
    parts = text.split(",")
    if len(parts) == 1:
        return _checked(text, text, 1.0, None, None)
    seed: int | None = None
    blur: float | None = None
    if len(parts) > 2:
        try:
            seed, blur = int(parts[-2]), float(parts[-1])
            parts = parts[:-2]
        except ValueError:
            seed, parts = _seed(text, parts[-1]), parts[:-1]
    try:
        weight = float(parts[-1])
    except ValueError:
        raise InputError(
            f"{text!r}: expected a weight, got {parts[-1].strip()!r}; write boat,2.0 or boat,2.0,SEED, with a decimal "
            "point in a weight that a seed follows"
        ) from None
    return _checked(text, ",".join(parts[:-1]), weight, seed, blur)


def _seed(text: str, given: str) -> int:
    try:
        return int(given)
    except ValueError:
        raise InputError(
            f"{text!r}: expected a whole number as the seed behind the weight, got {given.strip()!r}; write "
            "LABEL,WEIGHT,SEED, and no comma in the label"
        ) from None


def words_of(given: Any) -> RegionWords:
    """A region's words as a text, as an object with `word` and the rest where it is not the usual, or as a list of
    these in their order. Raises InputError."""
    if isinstance(given, RegionWords):
        return given
    if isinstance(given, str):
        return parse_words(given)
    if isinstance(given, list | tuple) and 1 <= len(given) <= len(KEYS):
        given = dict(zip(KEYS, given, strict=False))
    if not isinstance(given, Mapping) or not isinstance(given.get("word"), str) or given.keys() - set(KEYS):
        raise InputError(
            f"{given!r:.60}: expected words such as 'cat,1.2', or an object with word, weight, seed and blur"
        )
    weight, seed, blur = given.get("weight", 1.0), given.get("seed"), given.get("blur")
    wrong = [
        f"{given['word']!r}: expected a number as its {name}, got {value!r:.40}"
        for name, value, kind in (("weight", weight, Real), ("seed", seed, Integral), ("blur", blur, Real))
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool))
    ]
    if weight is None:
        weight = 1.0
    if wrong:
        raise InputError(*wrong)
    return _checked(given["word"], given["word"], float(weight), None if seed is None else int(seed), blur)


def _checked(said: str, label: str, weight: float, seed: int | None, blur: float | None) -> RegionWords:
    problems = []
    if not label.strip():
        problems.append(f"{said!r}: expected words of the prompt, got none; write such as cat,1.2")
    if not (math.isfinite(weight) and abs(weight) <= MOST_WEIGHT):
        problems.append(f"{said!r}: expected a weight from -{MOST_WEIGHT:g} to {MOST_WEIGHT:g}, got {weight:g}")
    if seed is not None and not NO_SEED <= seed <= MOST_SEED:
        problems.append(f"{said!r}: expected a seed of 0 or more, or -1 for none, got {seed}")
    if blur is not None and not 0 < blur <= MOST_BLUR:
        problems.append(f"{said!r}: expected a blur above 0, at most {MOST_BLUR:g} pixels, got {blur:g}")
    if problems:
        raise InputError(*problems)
    return RegionWords(label, weight, None if seed == NO_SEED else seed, None if blur is None else float(blur))


def colour_of(key: Any) -> Colour:
    """#13ff00, 19,255,0, or a tuple of red, green and blue. Raises InputError."""
    parts: list[Any] = list(key) if isinstance(key, list | tuple) else []
    if isinstance(key, str) and (found := COLOUR.fullmatch(key.strip())) is not None:
        parts = [*bytes.fromhex(found[1])] if found[1] else [int(part) for part in found.groups()[1:]]
    if len(parts) != 3 or not all(isinstance(part, Integral) and 0 <= int(part) <= 255 for part in parts):
        raise InputError(f"{key!r:.60}: expected a colour such as #13ff00 or 19,255,0")
    red, green, blue = map(int, parts)
    return red, green, blue


@dataclass(frozen=True, slots=True)
class RegionFile:
    """A mask's file and the words that are painted where it is white."""

    path: Path
    words: RegionWords


def parse_region(text: str) -> RegionFile:
    """`mask.png:cat`, with weight, seed and blur behind further colons: `mask.png:cat:1.2:7:3.0`. Raises InputError."""
    fields = text.split(":")
    numbers: list[str] = []
    while len(fields) > 2 and len(numbers) < 3 and _is_a_number(fields[-1]):
        numbers.insert(0, fields.pop())
    path, label = ":".join(fields[:-1]), fields[-1]
    if not path or not label.strip() or "/" in label or "\\" in label:
        raise InputError(f"{text}: expected MASK:WORDS or MASK:WORDS:WEIGHT such as mask.png:cat:1.2, got neither")
    weight = float(numbers[0]) if numbers else 1.0
    seed = None
    if len(numbers) > 1:
        if not re.fullmatch(r"\s*-?\d+\s*", numbers[1]):
            raise InputError(f"{text}: expected a whole number as the seed behind the weight, got {numbers[1]!r}")
        seed = int(numbers[1])
    blur = float(numbers[2]) if len(numbers) > 2 else None
    return RegionFile(Path(path), _checked(text, label, weight, seed, blur))


def _is_a_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
