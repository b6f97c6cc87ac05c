"""A marker behind each noun of the prompt that is a subject (FastComposer, arXiv 2305.10431)."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, ClassVar, TypedDict

import numpy as np

from ...errors import InputError
from ...media.pictures import several
from ...media.prompts.reading import PromptStyle, read_prompt
from ...media.prompts.windows import CUT, windows_of
from ...media.tokenizer import Tokenizer, is_text
from ..option import CallContext, CallShape, Option, PreparedInputs, Shape, options_of, short
from .prompt import STAND_IN_PROMPT


class MarkerOptions(TypedDict, total=False):
    """How subjects are marked."""

    marker: Annotated[
        str | None,
        Option("text", "What stands behind each subject's noun in the prompt.", checked_by_input=True),
    ]


@dataclass(frozen=True, slots=True)
class MarkerInput:
    """A marker behind a noun of the prompt says that the noun is a subject; no marker reaches the encoder.

    With `marks` the ids of the prompt's conditioner are those the authors mark, and slot `object_index`, int64
    [B, window], numbers the subject at each token from 0, with -1 for none. Without it the prompt is read with the
    marker deleted, and no slot is filled. `default` is the marker when the caller names none.
    Source: FastComposer (arXiv 2305.10431).
    """

    KEY: ClassVar[str] = "marker"
    OPTIONS: ClassVar[tuple[Option, ...]] = options_of(MarkerOptions)

    default: str
    marks: bool

    def slots(self) -> tuple[str, ...]:
        return ("object_index",) if self.marks else ()

    def describe(self) -> str:
        if self.marks:
            return f"the prompt's nouns before the marker ({self.default!r})"
        return f"the prompt without the marker ({self.default!r})"

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        """Reads the markers; several conditioners of a plan read the same."""
        tokenizer, style = made.tokenizer or call.tokenizer, PromptStyle.of(call.values)
        assert tokenizer is not None, "a marker without a prompt to stand in"
        if not is_text(call.prompt):
            return
        marker = self.marker_of(call.values)
        pictures = len(several(call.values["subjects"]))
        if style.plain:
            marked = read_markers(call.prompt, marker, tokenizer)
        else:
            marked = read_styled(call.prompt, marker, tokenizer, style)
        check_count(marked, pictures, marker)
        made.unmarked_prompt, made.marked_ids, made.marked = marked.plain, marked.input_ids, marked.count
        rows = [np.full_like(marked.object_index, -1), marked.object_index]
        made.slots["object_index"] = np.stack(rows[-call.rows :])
        made.notes += marked.notes
        if not pictures:
            made.notes.append(f"subjects: none given and none marked by {marker!r}; the text alone is drawn")

    def stand_in(self) -> dict[str, Any]:
        """The placeholder's letter, which any prompt that stands in holds."""
        return {"prompt": STAND_IN_PROMPT, "marker": STAND_IN_PROMPT[-1]}

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        rows, window = known["input_ids"]
        return {"object_index": (rows, window * call.windows)} if self.marks else {}

    def marker_of(self, values: Mapping[str, Any]) -> Any:
        """The marker of a run with these options."""
        return self.default if values.get("marker") is None else values["marker"]


@dataclass(frozen=True, slots=True)
class Marked:
    """A prompt with its markers read.

    `plain` is the text without them; `input_ids`, int64 [window], the ids without them, of all windows where there are
    several; `object_index`, of the same shape, the number of the subject at each token, -1 for none; `count` how many
    subjects there are; `notes` are warnings.
    """

    plain: str
    input_ids: np.ndarray
    object_index: np.ndarray
    count: int
    notes: tuple[str, ...] = ()


def read_markers(prompt: str, marker: str, tokenizer: Tokenizer) -> Marked:
    """Takes the markers out; the last token before each belongs to a subject.

    As the authors do it: a marker is found anywhere, in this very case; one at the start marks the opening token; two
    in a row count once; a prompt that is too long is cut without keeping its closing token, and markers behind the cut
    are lost. Whatever of this may surprise is told in a note. Raises InputError for a marker that cannot be one.
    """
    _check_marker(marker)
    ids: list[int] = []
    marks: list[int] = []
    opening, closing = tokenizer.ends()
    ids.append(opening)
    parts = prompt.split(marker)
    for number, part in enumerate(parts):
        ids += tokenizer.pieces(part)
        if number < len(parts) - 1:
            marks.append(len(ids) - 1)
    ids.append(closing)
    window = tokenizer.window
    kept = sorted({mark for mark in marks if mark < window})
    input_ids = np.full(window, tokenizer.pad_id, np.int64)
    input_ids[: min(len(ids), window)] = ids[:window]
    object_index = np.full(window, -1, np.int64)
    object_index[kept] = np.arange(len(kept))
    notes = [*_place_notes(marks, marker, window), *_word_notes(parts, marker), *_none_notes(prompt, marker, marks)]
    return Marked("".join(parts), input_ids, object_index, len(kept), tuple(notes))


def read_styled(prompt: str, marker: str, tokenizer: Tokenizer, style: PromptStyle) -> Marked:
    """`read_markers` of a prompt that is read in a style: over all its windows, each of which keeps its closing token.

    Raises InputError as `read_markers` does, and for a marker with signs of weight beside weights.
    """
    _check_marker(marker)
    if style.weighted and set(marker) & set("()[]:\\"):
        raise InputError(f"marker: expected one without brackets beside weights, got {marker!r}; choose another")
    reading = read_prompt(prompt, tokenizer, style, marker)
    windows = windows_of(reading, tokenizer, style)
    places = [windows.places[mark - 1] if mark else 0 for mark in reading.marks]
    kept = sorted({place for place in places if place != CUT})
    object_index = np.full(windows.input_ids.size, -1, np.int64)
    object_index[kept] = np.arange(len(kept))
    parts = prompt.split(marker)
    told = [tokenizer.window if place == CUT else place for place in places]
    notes = [*_place_notes(told, marker, object_index.size), *_word_notes(parts, marker)]
    notes += _none_notes(prompt, marker, places)
    return Marked(reading.text, windows.input_ids.reshape(-1), object_index, len(kept), tuple(notes))


def _check_marker(marker: str) -> None:
    if not is_text(marker) or not marker.strip():
        raise InputError(f"marker: expected text such as '<|image|>', got {short(marker)}")


def check_count(marked: Marked, subjects: int, marker: str) -> None:
    """Raises InputError unless there is one picture for each marked noun."""
    if marked.count != subjects:
        notes = f" ({'; '.join(marked.notes)})" if marked.notes else ""
        raise InputError(
            f"subjects: expected one picture for each noun that {marker!r} marks, got {subjects} "
            f"picture{'s' * (subjects != 1)} for {marked.count} marked{notes}; write "
            f"{marker!r} behind each subject's noun"
        )


def _place_notes(marks: list[int], marker: str, window: int) -> list[str]:
    notes = []
    if 0 in marks:
        notes.append(f"marker: {marker!r} stands before every word, so the prompt's opening token becomes the subject")
    if len(set(marks)) < len(marks):
        notes.append(f"marker: {marker!r} twice behind one word counts once")
    lost = sum(mark >= window for mark in marks)
    if lost:
        notes.append(f"marker: {lost} of {len(marks)} stand behind the encoder's {window} tokens and are lost")
    return notes


def _word_notes(parts: list[str], marker: str) -> list[str]:
    """A marker of letters also stands in the middle of words."""
    inside = any(
        (left[-1:].isalnum() and marker[0].isalnum()) or (right[:1].isalnum() and marker[-1].isalnum())
        for left, right in pairwise(parts)
    )
    joined = any(left[-1:].isalnum() and right[:1].isalnum() for left, right in pairwise(parts))
    if inside:
        return [f"marker: {marker!r} was found inside a word, which is torn apart there; choose another marker"]
    note = f"marker: where {marker!r} has no space around it, both words are one while the text alone is drawn; add one"
    return [note] * joined


def _none_notes(prompt: str, marker: str, marks: list[int]) -> list[str]:
    if marks or marker.lower() not in prompt.lower():
        return []
    return [f"marker: it is written in other letters in the prompt, where it is ordinary text; write {marker!r}"]
