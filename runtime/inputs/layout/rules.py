"""How a layout becomes tokens, as Frido's builder of conditions has it (arXiv 2208.13753; VQGAN's before it)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ...bundle.records import Count

Box = tuple[float, float, float, float]
"""x, y, width and height, as shares of the picture."""
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class LayoutObject:
    """One thing of a category, or with `group` several of them, and where it is."""

    category: int
    box: Box
    group: bool = False


@dataclass(frozen=True, slots=True)
class LayoutRules:
    """What a network was trained to read: `classes` categories, at most `objects` of them, and corners as one of
    `places`, a grid of as many rows as columns. Padding is the last place.

    With `encode_crop` the crop's corners follow the objects, whose boxes are the whole picture's; without, boxes are
    the crop's. With `groups` a group is another category than one thing.
    """

    classes: Count = 182
    objects: Count = 8
    places: Count = 1024
    encode_crop: bool = True
    groups: bool = True

    @property
    def sections(self) -> int:
        """Rows of the grid, and columns."""
        return math.isqrt(self.places)

    @property
    def length(self) -> int:
        """How many tokens a layout has."""
        return 3 * self.objects + (2 if self.encode_crop else 0)

    def problems(self, vocabulary: int, positions: int) -> Iterator[str]:
        """What an encoder of so many tokens, at so many positions, cannot read: a phrase each."""
        if self.sections**2 != self.places:
            yield f"no_tokens: expected a square number, as its grid has as many rows as columns, got {self.places}"
        most = max(self.places, self.classes * (1 + self.groups))
        if most > vocabulary:
            yield f"no_tokens and no_object_classes: expected tokens below {vocabulary}, got up to {most - 1}"
        if self.length > positions:
            yield f"no_max_objects: expected at most {positions} tokens, got {self.length} of {self.objects} objects"


@dataclass(frozen=True, slots=True)
class Layout:
    """Objects in the order in which they are read, what of the picture is drawn, and whether it is mirrored."""

    objects: tuple[LayoutObject, ...]
    crop: Box = WHOLE
    flip: bool = False

    def kept(self) -> tuple[LayoutObject, ...]:
        """Those that are in the crop."""
        return tuple(each for each in self.objects if overlaps(each.box, self.crop))

    def tokens(self, rules: LayoutRules) -> list[int]:
        """The tokens, `rules.length` of them."""
        found: list[int] = []
        kept = self.kept()
        for each in kept:
            within = _within(each.box, WHOLE if rules.encode_crop else self.crop)
            kind = each.category + rules.classes * (each.group and rules.groups)
            found += [kind, *_corners(self._shown(within), rules)]
        found += [rules.places - 1] * 3 * (rules.objects - len(kept))
        return found + (_corners(self._shown(self.crop), rules) if rules.encode_crop else [])

    def _shown(self, box: Box) -> Box:
        x, y, width, height = box
        return (1 - (x + width), y, width, height) if self.flip else box


def overlaps(one: Box, other: Box) -> bool:
    """Whether two boxes share more than an edge."""
    return all(
        min(one[axis] + one[axis + 2], other[axis] + other[axis + 2]) > max(one[axis], other[axis]) for axis in (0, 1)
    )


def _within(box: Box, crop: Box) -> Box:
    """A box as shares of a crop, in which it begins and ends."""
    (x, width), (y, height) = (_side(box[axis], box[axis + 2], crop[axis], crop[axis + 2]) for axis in (0, 1))
    return x, y, width, height


def _side(start: float, length: float, begin: float, whole: float) -> tuple[float, float]:
    start = min(max((start - begin) / whole, 0.0), 1.0)
    return start, min(length / whole, 1 - start)


def _corners(box: Box, rules: LayoutRules) -> list[int]:
    """The places of the upper left and of the lower right corner."""
    x, y, width, height = box
    return [_place(x, y, rules), _place(x + width, y + height, rules)]


def _place(x: float, y: float, rules: LayoutRules) -> int:
    # Halves go to the even number, as Python rounds.
    return round(y * (rules.sections - 1)) * rules.sections + round(x * (rules.sections - 1))
