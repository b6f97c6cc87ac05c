"""What a caller gives besides the prompt - pictures, a placeholder word, a strength - checked and put into slots."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .clip_pictures import clip_pixels
from .errors import InputError
from .inputs import Injection, PictureInput, WordInput
from .pictures import PictureSource, open_picture
from .placeholder import PLACEMENTS, place_word
from .plan import Plan
from .slots import Slots
from .subject import subject_inputs
from .tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The options of adapters; what a bundle does not take must keep its default.

    `subject`, its `mask` and `image` (one or several) are files, PIL images or uint8 arrays; `soft_mask` weights by the
    mask's greys instead of cutting. `word` is the placeholder, `placement` "token" or "authors", `words` how many of
    the subject's embeddings stand there, `global_only` leaves its patches out. `strength` scales the second attention.
    """

    subject: PictureSource | None = None
    mask: PictureSource | None = None
    soft_mask: bool = False
    image: PictureSource | Sequence[PictureSource] | None = None
    word: str | None = None
    placement: str = "token"
    words: int = 1
    global_only: bool = False
    strength: float | None = None


@dataclass(slots=True)
class Filled:
    """The slots that need no graph, with warnings and problems, one line each."""

    slots: Slots = field(default_factory=dict)
    words: int = 1
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def fill(plan: Plan, given: Given, prompt: str, tokenizer: Tokenizer | None, sides: int) -> Filled:
    """Slots of one row, or of one for each of `sides`; `tokenizer` is the prompt's where a word must be found in it."""
    inputs = [taken for conditioner in plan.conditioners for taken in conditioner.inputs()]
    filled = Filled(words=given.words)
    filled.problems += _not_taken(given, [*inputs, plan.injection])
    index = -1
    for taken in inputs:
        try:
            if isinstance(taken, PictureInput):
                _fill_picture(taken, given, filled)
            if isinstance(taken, WordInput):
                assert tokenizer is not None, "a word without a prompt to stand in"
                _check_words(given, taken)
                index = _fill_word(taken, given, prompt, tokenizer, sides, filled)
        except InputError as error:
            filled.problems += error.problems
    if plan.injection is not None:
        _fill_injection(plan.injection, given, index, sides, filled)
    return filled


def _not_taken(given: Given, inputs: Sequence[Any]) -> list[str]:
    taken: set[str] = set()
    for one in inputs:
        if isinstance(one, PictureInput):
            taken |= {"subject", "mask", "soft_mask"} if one.kind == "subject" else {"image"}
        if isinstance(one, WordInput):
            taken |= {"word", "placement", "words", "global_only"}
        if isinstance(one, Injection):
            taken |= {"strength"}
    return [
        f"{option.name}: this bundle takes none; leave it out"
        for option in fields(Given)
        if option.name not in taken and getattr(given, option.name) is not option.default
    ]


def _fill_picture(taken: PictureInput, given: Given, filled: Filled) -> None:
    if taken.kind == "subject":
        if given.subject is None:
            raise InputError(_none_given(taken))
        subject = subject_inputs(given.subject, given.mask, taken.size, taken.grid, given.soft_mask)
        filled.slots |= subject.slots
        filled.notes += subject.notes
        return
    sources = _several(given.image)
    if not sources:
        raise InputError(_none_given(taken))
    pictures = [open_picture(source, "image") for source in sources]
    filled.slots["image_pixels"] = clip_pixels([picture.image for picture in pictures], taken.size)[None]
    filled.notes += [note for picture in pictures for note in picture.notes]


def _several(image: PictureSource | Sequence[PictureSource] | None) -> Sequence[PictureSource]:
    if image is None:
        return ()
    return (image,) if isinstance(image, str | Path | Image.Image | np.ndarray) else image


def _none_given(taken: PictureInput) -> str:
    return f"{taken.kind}: expected a picture, which this bundle draws from, got none; give {taken.kind}"


def _check_words(given: Given, taken: WordInput) -> None:
    problems = []
    if given.placement not in PLACEMENTS:
        problems.append(f"placement: expected {' or '.join(PLACEMENTS)}, got {given.placement!r}")
    if not isinstance(given.words, Integral) or not 1 <= given.words <= taken.most:
        problems.append(f"words: expected a whole number from 1 to {taken.most}, got {given.words!r}")
    elif given.words > 1 and not given.global_only:
        problems.append(f"words: expected 1 beside the subject's patches, got {given.words}; add global_only")
    if given.global_only and given.strength is not None:
        problems.append("strength: scales the subject's patches, which global_only leaves out; give one of the two")
    if problems:
        raise InputError(*problems)


def _fill_word(taken: WordInput, given: Given, prompt: str, tokenizer: Tokenizer, sides: int, filled: Filled) -> int:
    """Fills the word's index and returns it."""
    word = taken.default if given.word is None else given.word
    placed = place_word(prompt, word, tokenizer, given.placement, given.words)
    filled.notes += placed.notes
    filled.slots["word_index"] = np.asarray([tokenizer.window, placed.index][-sides:], np.int64)
    return placed.index


def _fill_injection(taken: Injection, given: Given, index: int, sides: int, filled: Filled) -> None:
    strength = taken.strength if given.strength is None else given.strength
    if not isinstance(strength, Real) or not math.isfinite(strength):
        filled.problems.append(f"strength: expected a finite number such as {taken.strength}, got {strength!r}")
        return
    conditional = 0.0 if given.global_only else strength
    strengths = [conditional if taken.unconditional else 0.0, conditional]
    filled.slots["strength"] = np.asarray(strengths[-sides:], np.float32)
    filled.slots["token_index"] = np.full(sides, index if taken.at_word else -1, np.int64)
