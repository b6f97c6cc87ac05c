"""Pairs, one left and one right, and the judge of what was drawn of them: of held-out subjects, and of the vocabulary's
pictures, each painted on its half.

Needs numpy and Pillow only.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from .captions import caption
from .judge import behind, blurred, judge, nearest_background
from .subjects import subject_keys, subject_picture, subject_scene
from .vocabulary import CANVAS, backgrounds, picture_keys

MARKER = "<|image|>"
NOUN = "toy"
"""The word that a subject stands for. The tokenizer splits it in two, of which the last carries the subject."""
SIDE = 30
LEFTS, TOP = (1, 33), 17
"""Each subject stands in the middle of its half."""
HALF = CANVAS // 2
STANDS_OUT = 0.9
"""The share of the subjects nobody asked for that one must outdo to be seen in a half. By chance a tenth do."""
MIXED = 1 / 3
"""The least share of the second subject in a mix."""
PROMPT = "a {noun} {marker} and a {noun} {marker} on a {background} background"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two held-out subjects and a background by their keys, and the prompt that asks for them with two pictures."""

    left: str
    right: str
    background: str
    prompt: str

    def pictures(self) -> tuple[np.ndarray, np.ndarray]:
        """The reference pictures, uint8 [64, 64, 3]: each subject alone on white."""
        return subject_scene(self.left, "white"), subject_scene(self.right, "white")


@dataclass(frozen=True, slots=True)
class PairVerdict:
    """What a drawing of a pair shows.

    named: which of the 64 held-out subjects is nearest in the left and in the right half. shown: what each half shows
    of the two that were asked for: "own", the one asked for there, "other", the one asked for on the other side, "mix",
    both of them, or "neither". background: key of the named colour. Every drawing is one of apart, swapped, blended and
    missing.
    """

    named: tuple[str, str]
    shown: tuple[str, str]
    background: str

    @property
    def apart(self) -> bool:
        """Both are there, each on its own side."""
        return self.shown == ("own", "own")

    @property
    def swapped(self) -> bool:
        """Whether each subject is on the other's side."""
        return self.shown == ("other", "other")

    @property
    def missing(self) -> bool:
        """One half shows neither."""
        return "neither" in self.shown

    @property
    def blended(self) -> bool:
        """One half shows a mix, or both halves show the same subject."""
        return not (self.apart or self.swapped or self.missing)


@cache
def pairs() -> tuple[Pair, ...]:
    """64 pairs in a fixed order: each held-out subject once on the left and once on the right, each colour 8 times."""
    keys, colours = subject_keys(), [background.key for background in backgrounds()]
    order = np.random.default_rng(51).permutation(len(keys))
    chosen = zip(order, np.roll(order, 1), strict=True)
    return tuple(
        Pair(keys[a], keys[b], colour, PROMPT.format(noun=NOUN, marker=MARKER, background=colour))
        for (a, b), colour in zip(chosen, colours * (len(keys) // len(colours)), strict=True)
    )


def pair_scene(pair: Pair) -> np.ndarray:
    """What the prompt asks for: uint8 [64, 64, 3]."""
    colour = next(background.rgb for background in backgrounds() if background.key == pair.background)
    canvas = np.broadcast_to(np.asarray(colour, np.float32), (CANVAS, CANVAS, 3))
    for key, left in zip((pair.left, pair.right), LEFTS, strict=True):
        canvas = put(canvas, _small(key), left, TOP)
    return np.round(canvas).astype(np.uint8)


def put(canvas: np.ndarray, tile: np.ndarray, left: int, top: int) -> np.ndarray:
    """A copy of a canvas, float [..., h, w, 3], with a tile (uint8 RGBA [..., s, s, 4]) over it."""
    canvas, side = canvas.copy(), tile.shape[-2]
    window = canvas[..., top : top + side, left : left + side, :]
    window += tile[..., 3:].astype(np.float32) / 255 * (tile[..., :3] - window)
    return canvas


def judge_pair(image: np.ndarray, pair: Pair) -> PairVerdict:
    """Judges a drawing of `pair`, uint8 [64, 64, 3], half by half, both averaged over 2 x 2 pixels as in `judge`."""
    ground = behind(image).astype(np.float32)
    canvas = np.broadcast_to(ground, (len(subject_keys()), CANVAS, HALF, 3))
    references = blurred(put(canvas, _smalls(), LEFTS[0], TOP)) - ground  # in its half, either place is the same
    references = references.reshape(len(references), -1)
    halves = [(blurred(half[None].astype(np.float32)) - ground).ravel() for half in (image[:, :HALF], image[:, HALF:])]
    left, right = (subject_keys().index(key) for key in (pair.left, pair.right))
    named = [subject_keys()[((references - half) ** 2).mean(1).argmin()] for half in halves]
    shown = _shown(halves[0], references, left, right), _shown(halves[1], references, right, left)
    return PairVerdict((named[0], named[1]), shown, nearest_background(image))


def _shown(drawn: np.ndarray, references: np.ndarray, own: int, other: int) -> str:
    """Which of two subjects a half shows, all as differences from the background.

    A subject is seen where it is more like the drawing than nearly all that nobody asked for, and a mix where besides
    the first the second explains more than they would. Nearness alone would not do: the average of two is the nearest
    to most coarse drawings, even of only one of them.
    """
    unasked = np.delete(np.arange(len(references)), [own, other])
    alike = references @ drawn / np.maximum(np.linalg.norm(references, axis=1) * np.linalg.norm(drawn), 1e-6)
    first, second, name = (own, other, "own") if alike[own] >= alike[other] else (other, own, "other")
    if not _stands_out(alike, first, unasked):
        return "neither"
    shares = _second_shares(drawn, references, first)
    return "mix" if shares[second] >= MIXED and _stands_out(shares, second, unasked) else name


def _stands_out(values: np.ndarray, one: int, unasked: np.ndarray) -> bool:
    return float((values[one] > values[unasked]).mean()) > STANDS_OUT


def _second_shares(drawn: np.ndarray, references: np.ndarray, first: int) -> np.ndarray:
    """The share of each subject where it and the first are added up so that the drawing is met best, [64], 0 to 1."""
    own = references[first]
    own_own, own_each, each_each = own @ own, references @ own, (references**2).sum(1)
    own_drawn, each_drawn = own @ drawn, references @ drawn
    determinant = np.maximum(own_own * each_each - own_each**2, 1e-6)
    of_own = np.maximum((each_each * own_drawn - own_each * each_drawn) / determinant, 0)
    of_each = np.maximum((own_own * each_drawn - own_each * own_drawn) / determinant, 0)
    return of_each / np.maximum(of_own + of_each, 1e-6)


@cache
def _small(key: str) -> np.ndarray:
    return np.asarray(subject_picture(key).resize((SIDE, SIDE), Image.Resampling.LANCZOS))


@cache
def _smalls() -> np.ndarray:
    """Every held-out subject at a pair's size, uint8 RGBA [64, 30, 30, 4]."""
    return np.stack([_small(key) for key in subject_keys()])


COLOURS = (208, 66, 66), (66, 100, 208)
"""Of the painted map's halves."""


@dataclass(frozen=True, slots=True)
class PaintedPair:
    """Two pictures of the vocabulary by their keys, on a background, for a drawing of 64 x 128 pixels.

    The prompt reads each caption by itself: behind another, the small text encoder takes every word for the first's.
    """

    left: str
    right: str
    background: str

    @property
    def captions(self) -> tuple[str, str]:
        """What is painted on each half."""
        return caption("English", self.left, self.background), caption("English", self.right, self.background)

    def options(self) -> dict[str, Any]:
        """A run that paints it."""
        words = dict(zip(COLOURS, self.captions, strict=True))
        return {"paint": painted_map(), "paint_words": words, "long_prompt": True}

    @property
    def prompt(self) -> str:
        """Both captions, each in a window of its own."""
        return " BREAK ".join(self.captions)


def painted_map() -> np.ndarray:
    """The left half and the right half, uint8 [64, 128, 3]."""
    halves = [np.full((CANVAS, CANVAS, 3), colour, np.uint8) for colour in COLOURS]
    return np.concatenate(halves, axis=1)


@cache
def painted_pairs() -> tuple[PaintedPair, ...]:
    """64 pairs in a fixed order: each picture once on the left and once on the right, each colour 8 times.

    The first is a red apple and a panda.
    """
    keys, colours = picture_keys(), [background.key for background in backgrounds()]
    first, second = (keys.index(key) for key in ("red apple", "panda"))
    others = [number for number in np.random.default_rng(53).permutation(len(keys)) if number not in (first, second)]
    order = [second, first, *others]
    chosen = zip(np.roll(order, -1), order, strict=True)
    return tuple(PaintedPair(keys[a], keys[b], colour) for (a, b), colour in zip(chosen, colours * 8, strict=True))


def judge_painted(image: np.ndarray) -> tuple[str, str]:
    """What each half of a drawing shows, uint8 [64, 128, 3]: the picture that `judge` names."""
    return judge(image[:, :CANVAS]).key, judge(image[:, CANVAS:]).key
