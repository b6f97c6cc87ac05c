"""Puts what a caller gives into the plan's slots, before the first graph runs."""

from dataclasses import dataclass, field
from numbers import Integral, Real

import numpy as np

from ..bundle.plan import Delay, NamedTensors, Plan
from ..errors import InputError
from ..media.clip_pixels import clip_pixels
from ..media.pictures import open_pictures
from ..media.waveform import open_waveform
from .given import Given, is_count, several, short
from .marker import Marked, MarkerInput, check_count, read_markers
from .mix import MixInput
from .picture import PictureInput
from .prompt import Tokenizer, is_text
from .sound import SoundInput
from .strength import Injection
from .subject import subject_inputs
from .subjects import reference_pixels
from .word import PLACEMENTS, WordInput, place_word

LARGEST = float(np.finfo(np.float32).max)
"""The graphs read float32, in which a larger strength is infinite."""


@dataclass(slots=True)
class PreparedInputs:
    """The slots that need no graph, with warnings and problems, one line each.

    `marked` is the prompt with its markers read, `last_plain_call` the last UNet call that a delayed segment waits for.
    """

    slots: NamedTensors = field(default_factory=dict)
    words: int = 1
    marked: Marked | None = None
    last_plain_call: float = 0.0
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class CallContext:
    """One call: what was given, the prompt, its tokenizer where something stands in it, the guidance's sides, whether a
    second bundle's context is mixed in, and the preset's delay."""

    given: Given
    prompt: str | None
    tokenizer: Tokenizer | None
    sides: int
    mixes: bool = False
    delay: float | None = None


def prepare_inputs(plan: Plan, asked: CallContext, steps: int) -> PreparedInputs:
    """Slots of one row, or of one for each of the sides; `steps` are those of the run."""
    given, filled = asked.given, PreparedInputs(words=asked.given.words)
    filled.problems += given.problems(plan)
    marker: MarkerInput | None = None
    for taken in (one for conditioner in plan.conditioners for one in conditioner.inputs()):
        try:
            if isinstance(taken, PictureInput):
                _fill_picture(taken, given, filled)
            if isinstance(taken, WordInput):
                _fill_word(taken, asked, filled)
            if isinstance(taken, SoundInput):
                _fill_sound(taken, given, filled)
            if isinstance(taken, MixInput):
                filled.problems += _mix_problems(taken, asked)
        except InputError as error:
            filled.problems += error.problems
        if isinstance(taken, MarkerInput):
            marker = taken
    if marker is not None:
        _fill_markers(marker, asked, filled)
    if plan.injection is not None:
        _fill_injection(plan.injection, given, asked.sides, filled)
    if plan.delay is not None:
        _fill_delay(plan.delay, asked, steps, filled)
    return filled


def _fill_picture(taken: PictureInput, given: Given, filled: PreparedInputs) -> None:
    if taken.kind == "subjects":
        _fill_subjects(taken, given, filled)
    elif taken.kind == "image":
        sources = several(given.image)
        if not sources:
            raise InputError(_none_given("image"))
        pictures = open_pictures((source, "image") for source in sources)
        filled.slots["image_pixels"] = clip_pixels([picture.image for picture in pictures], taken.size)[None]
        filled.notes += [note for picture in pictures for note in picture.notes]
    else:
        if given.subject is None:
            raise InputError(_none_given("subject"))
        if given.soft_mask and given.mask is None:
            filled.problems.append("soft_mask: expected a mask, whose greys are the weights, got none; give mask")
        subject = subject_inputs(given.subject, given.mask, taken.size, taken.grid, given.soft_mask)
        filled.slots |= subject.slots
        filled.notes += subject.notes


def _fill_subjects(taken: PictureInput, given: Given, filled: PreparedInputs) -> None:
    sources = several(given.subjects)
    if not sources:
        # No noun is marked, or the count is told; the encoder still wants a picture, which then stands nowhere.
        filled.slots["subjects_pixels"] = np.zeros((1, 1, 3, taken.size, taken.size), np.float32)
        return
    resolution = taken.resolution if given.object_resolution is None else given.object_resolution
    pixels, notes = reference_pixels(sources, resolution, taken.size)
    filled.slots["subjects_pixels"] = pixels[None]
    filled.notes += notes


def _none_given(kind: str) -> str:
    return f"{kind}: expected a picture, which this bundle draws from, got none; give {kind}"


def _fill_word(taken: WordInput, asked: CallContext, filled: PreparedInputs) -> None:
    """Fills the word's index, unless there are problems."""
    given, prompt, tokenizer = asked.given, asked.prompt, asked.tokenizer
    assert tokenizer is not None, "a word without a prompt to stand in"
    before = len(filled.problems)
    filled.problems += _word_problems(given, taken)
    # The prompt is looked at all the same: its problems are told with the others.
    placement = given.placement if given.placement in PLACEMENTS else PLACEMENTS[0]
    words = int(given.words) if is_count(given.words, taken.most) else 1
    word = taken.default if given.word is None else given.word
    if not is_text(prompt) or not isinstance(word, str):
        return
    placed = place_word(prompt, word, tokenizer, placement, words)
    if len(filled.problems) > before:
        return
    filled.notes += placed.notes
    filled.slots["word_index"] = np.asarray([tokenizer.window, placed.index][-asked.sides :], np.int64)


def _word_problems(given: Given, taken: WordInput) -> list[str]:
    problems = []
    if given.word is not None and not isinstance(given.word, str):
        problems.append(f"word: expected text, got {given.word!r}; choose a word such as {taken.default!r}")
    if given.placement not in PLACEMENTS:
        problems.append(f"placement: expected {' or '.join(PLACEMENTS)}, got {given.placement!r}")
    if not is_count(given.words, taken.most):
        problems.append(f"words: expected a whole number from 1 to {taken.most}, got {given.words!r}")
    elif given.words > 1 and not given.global_only:
        problems.append(f"words: expected 1 beside the subject's patches, got {given.words}; add global_only")
    if given.global_only and given.strength is not None:
        problems.append("strength: scales the subject's patches, which global_only leaves out; give one of the two")
    return problems


def _fill_markers(taken: MarkerInput, asked: CallContext, filled: PreparedInputs) -> None:
    assert asked.tokenizer is not None, "a marker without a prompt to stand in"
    if not is_text(asked.prompt):
        return
    marker = taken.default if asked.given.marker is None else asked.given.marker
    pictures = len(several(asked.given.subjects))
    try:
        marked = read_markers(asked.prompt, marker, asked.tokenizer)
        check_count(marked, pictures, marker)
    except InputError as error:
        filled.problems += error.problems
        return
    filled.marked = marked
    rows = [np.full_like(marked.object_index, -1), marked.object_index]
    filled.slots["object_index"] = np.stack(rows[-asked.sides :])
    filled.notes += marked.notes
    if not pictures:
        filled.notes.append(f"subjects: none given and none marked by {marker!r}; the text alone is drawn")


def _fill_delay(taken: Delay, asked: CallContext, steps: int, filled: PreparedInputs) -> None:
    alpha, start = asked.given.alpha, asked.given.start_merge_step
    if alpha is not None and start is not None:
        filled.problems.append("alpha (--delay): delays the subjects as start_merge_step does; give one of the two")
    if alpha is not None and not (_is_number(alpha) and 0 <= alpha <= 1):
        filled.problems.append(
            f"alpha (--delay): expected a share from 0 (never) to 1 (from the second call on), got {short(alpha)}"
        )
    elif start is not None and not (isinstance(start, Integral) and _is_number(start) and start >= 0):
        filled.problems.append(f"start_merge_step: expected a whole number >= 0, got {short(start)}")
    elif isinstance(steps, Integral):
        filled.last_plain_call = taken.last_call(int(steps), alpha, start, asked.delay)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _fill_sound(taken: SoundInput, given: Given, filled: PreparedInputs) -> None:
    if given.sound is None:
        raise InputError("sound: expected a sound, which this bundle draws from, got none; give sound")
    waveform = open_waveform(given.sound, taken.rate, taken.frames)
    filled.slots["waveform"] = waveform.samples
    filled.notes += waveform.notes


def _mix_problems(taken: MixInput, asked: CallContext) -> list[str]:
    mix, most = asked.given.mix, taken.tokens // 2
    problems = []
    if mix is not None and not asked.mixes:
        problems.append(
            "mix: expected a prompt and a text bundle of the same base to mix the sound with, got only the sound; give "
            "both, or leave mix out"
        )
    if mix is not None and not is_count(mix, most):
        problems.append(
            f"mix: expected a whole number of tokens from 1 to {most}, got {short(mix)}; the authors take 3 to 7"
        )
    return problems


def _fill_injection(taken: Injection, given: Given, sides: int, filled: PreparedInputs) -> None:
    strength = taken.strength if given.strength is None else given.strength
    if not isinstance(strength, Real) or not -LARGEST <= strength <= LARGEST:
        filled.problems.append(f"strength: expected a finite number such as {taken.strength}, got {short(strength)}")
        return
    conditional = 0.0 if given.global_only else strength
    strengths = [conditional if taken.unconditional else 0.0, conditional]
    filled.slots["strength"] = np.asarray(strengths[-sides:], np.float32)
    word = filled.slots.get("word_index")
    index = -1 if word is None or not taken.at_word else word[-1]
    filled.slots["token_index"] = np.full(sides, index, np.int64)
