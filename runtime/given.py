"""What a caller gives besides the prompt - pictures, a placeholder word, a strength - checked and put into slots."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import Any

import numpy as np

from .clip_pictures import clip_pixels
from .errors import InputError
from .inputs import Injection, PictureInput, WordInput
from .pictures import PictureSource, open_pictures
from .placeholder import PLACEMENTS, place_word
from .plan import Plan
from .slots import Slots
from .subject import subject_inputs
from .tokenizer import Tokenizer, is_text

LARGEST = float(np.finfo(np.float32).max)
"""The graphs read float32, in which a larger strength is infinite."""


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
    filled.problems += _not_taken(given, [*inputs, plan.injection]) + _flag_problems(given)
    index = -1
    for taken in inputs:
        try:
            if isinstance(taken, PictureInput):
                _fill_picture(taken, given, filled)
            if isinstance(taken, WordInput):
                assert tokenizer is not None, "a word without a prompt to stand in"
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
        if option.name not in taken and not _is_default(getattr(given, option.name), option.default)
    ]


def _flag_problems(given: Given) -> list[str]:
    """Any text would count as true, "no" as well."""
    return [
        f"{name}: expected True or False, got {_short(getattr(given, name))}"
        for name in ("soft_mask", "global_only")
        if not isinstance(getattr(given, name), bool | np.bool_)
    ]


def _is_default(value: Any, default: Any) -> bool:
    """Arrays would compare value by value."""
    return value is default or (isinstance(value, str | Integral) and bool(value == default))


def _fill_picture(taken: PictureInput, given: Given, filled: Filled) -> None:
    if taken.kind == "subject":
        if given.subject is None:
            raise InputError(_none_given(taken))
        if given.soft_mask and given.mask is None:
            filled.problems.append("soft_mask: expected a mask, whose greys are the weights, got none; give mask")
        subject = subject_inputs(given.subject, given.mask, taken.size, taken.grid, given.soft_mask)
        filled.slots |= subject.slots
        filled.notes += subject.notes
        return
    sources = _several(given.image)
    if not sources:
        raise InputError(_none_given(taken))
    pictures = open_pictures((source, "image") for source in sources)
    filled.slots["image_pixels"] = clip_pixels([picture.image for picture in pictures], taken.size)[None]
    filled.notes += [note for picture in pictures for note in picture.notes]


def _several(image: PictureSource | Sequence[PictureSource] | None) -> Sequence[PictureSource]:
    if image is None:
        return ()
    return image if isinstance(image, Sequence) and not isinstance(image, str | bytes) else (image,)


def _none_given(taken: PictureInput) -> str:
    return f"{taken.kind}: expected a picture, which this bundle draws from, got none; give {taken.kind}"


def _fill_word(taken: WordInput, given: Given, prompt: str, tokenizer: Tokenizer, sides: int, filled: Filled) -> int:
    """Fills the word's index and returns it, or -1 beside the problems."""
    before = len(filled.problems)
    filled.problems += _word_problems(given, taken)
    # The prompt is looked at all the same: its problems are told with the others.
    placement = given.placement if given.placement in PLACEMENTS else PLACEMENTS[0]
    words = int(given.words) if _is_count(given.words, taken.most) else 1
    word = taken.default if given.word is None else given.word
    if not is_text(prompt) or not isinstance(word, str):
        return -1
    placed = place_word(prompt, word, tokenizer, placement, words)
    if len(filled.problems) > before:
        return -1
    filled.notes += placed.notes
    filled.slots["word_index"] = np.asarray([tokenizer.window, placed.index][-sides:], np.int64)
    return placed.index


def _word_problems(given: Given, taken: WordInput) -> list[str]:
    problems = []
    if given.word is not None and not isinstance(given.word, str):
        problems.append(f"word: expected text, got {given.word!r}; choose a word such as {taken.default!r}")
    if given.placement not in PLACEMENTS:
        problems.append(f"placement: expected {' or '.join(PLACEMENTS)}, got {given.placement!r}")
    if not _is_count(given.words, taken.most):
        problems.append(f"words: expected a whole number from 1 to {taken.most}, got {given.words!r}")
    elif given.words > 1 and not given.global_only:
        problems.append(f"words: expected 1 beside the subject's patches, got {given.words}; add global_only")
    if given.global_only and given.strength is not None:
        problems.append("strength: scales the subject's patches, which global_only leaves out; give one of the two")
    return problems


def _is_count(words: Any, most: int) -> bool:
    return isinstance(words, Integral) and 1 <= int(words) <= most


def _fill_injection(taken: Injection, given: Given, index: int, sides: int, filled: Filled) -> None:
    strength = taken.strength if given.strength is None else given.strength
    if not isinstance(strength, Real) or not -LARGEST <= strength <= LARGEST:
        filled.problems.append(f"strength: expected a finite number such as {taken.strength}, got {_short(strength)}")
        return
    conditional = 0.0 if given.global_only else strength
    strengths = [conditional if taken.unconditional else 0.0, conditional]
    filled.slots["strength"] = np.asarray(strengths[-sides:], np.float32)
    filled.slots["token_index"] = np.full(sides, index if taken.at_word else -1, np.int64)


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
