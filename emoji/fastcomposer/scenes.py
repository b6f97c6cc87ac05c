"""The scenes of FastComposer's batches: one or two subjects on a plain background, their masks, and marked prompts."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from ..elite.subject_latents import EDGE, characters
from ..world import english, vocabulary
from ..world.pairs import LEFTS, MARKER, NOUN, SIDE, TOP, put
from ..world.scenes import CANVAS, PICTURE, wide_pictures
from ..world.subject_views import solid, tile_of
from .views import CHANGES, VIEWS

ALIGNED_SHARE = 0.6
NAMED_SHARE = 0.15
"""How many subjects are pictures of the vocabulary under their own name; the others are toys."""
JOINTS = ("and", "and", "and", "with")


@dataclass(frozen=True, slots=True)
class Scene:
    """One or two subjects as (subject, change, view) from left to right, the background's number, and the prompt with
    a marker after each subject's noun."""

    subjects: tuple[tuple[int, int, int], ...]
    ground: int
    caption: str

    def places(self) -> list[tuple[int, int, int]]:
        """Side, left and top of each subject: a pair side by side, one alone in the middle."""
        return [(SIDE, left, TOP) for left in LEFTS] if len(self.subjects) == 2 else [(PICTURE, EDGE, EDGE)]

    def drawn(self) -> np.ndarray:
        """uint8 [64, 64, 3]."""
        canvas = np.broadcast_to(np.asarray(vocabulary.backgrounds()[self.ground].rgb, np.float32), (CANVAS, CANVAS, 3))
        for (subject, change, _), (side, left, top) in zip(self.subjects, self.places(), strict=True):
            canvas = put(canvas, tile(subject, change, side), left, top)
        return np.round(canvas).astype(np.uint8)

    def masks(self) -> list[np.ndarray]:
        """Where each subject stands, uint8 0 or 1 [64, 64]."""
        return [
            solid(tile(subject, change, side), left, top)
            for (subject, change, _), (side, left, top) in zip(self.subjects, self.places(), strict=True)
        ]


@cache
def tile(subject: int, change: int, side: int) -> np.ndarray:
    """A subject at its size, uint8 RGBA [side, side, 4]."""
    changed = CHANGES[change]
    return tile_of(wide_pictures()[characters()[subject]], side, changed.flipped, changed.channels)


def draw_scene(rng: np.random.Generator, count: int) -> Scene:
    """A random scene of `count` subjects."""
    chosen = [_draw_subject(rng) for _ in range(count)]
    ground = int(rng.integers(len(vocabulary.backgrounds())))
    articles = vocabulary.vocabulary_table()["languages"]["English"]["articles"]
    items = [f"{_any(articles, rng)} {noun} {MARKER}".strip() for _, noun in chosen]
    item = f" {_any(JOINTS, rng)} ".join(items)
    return Scene(tuple(subject for subject, _ in chosen), ground, _on_background(item, ground, rng))


def _draw_subject(rng: np.random.Generator) -> tuple[tuple[int, int, int], str]:
    view = 0 if rng.random() < ALIGNED_SHARE else int(rng.integers(1, VIEWS))
    if rng.random() < NAMED_SHARE:
        entry = _any(
            [entry for entry in vocabulary.vocabulary_table()["pictures"] if entry["emoji"] in _numbers()], rng
        )
        return (_numbers()[entry["emoji"]], 0, view), entry["names"]["English"]
    return (int(rng.integers(len(characters()))), int(rng.integers(len(CHANGES))), view), NOUN


@cache
def _numbers() -> dict[str, int]:
    return {character: number for number, character in enumerate(characters())}


def _on_background(item: str, ground: int, rng: np.random.Generator) -> str:
    """ "a toy and a toy on a blue background" or another form of it; white may go unnamed."""
    words, colour = (
        vocabulary.vocabulary_table()["languages"]["English"],
        vocabulary.vocabulary_table()["backgrounds"][ground],
    )
    unnamed = colour["key"] == "white" and rng.random() < 0.5
    names = [colour["names"]["English"]] * 2 + colour["synonyms"]["English"]
    template = words["plain" if unnamed else "scene"]
    forms = [template[0]] * 3 + template
    return _any(forms, rng).format(item=item, background=_any(names, rng))


def encode_marked(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Token ids without the markers, int64 [n, 24], and which object stands at each, -1 for none.

    The last token before the k-th marker carries object k.
    """
    ids = english.encode([text.replace(MARKER, "") for text in texts])
    index = np.full_like(ids, -1)
    for row, text in zip(index, texts, strict=True):
        parts = text.split(MARKER)
        for number in range(len(parts) - 1):
            before = english.tokenizer().encode("".join(parts[: number + 1]), add_special_tokens=False).ids
            row[len(before)] = number  # the start token stands at 0
    return ids, index


def _any(choices: Sequence[Any], rng: np.random.Generator) -> Any:
    return choices[int(rng.integers(len(choices)))]
