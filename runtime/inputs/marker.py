"""A marker behind each noun of the prompt that is a subject (FastComposer, arXiv 2305.10431)."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..errors import InputError
from .prompt import Tokenizer, is_text


@dataclass(frozen=True, slots=True)
class MarkerInput:
    """A marker behind a noun of the prompt says that the noun is a subject; no marker reaches the encoder.

    With `marks` the ids of the prompt's conditioner are those the authors mark, and slot `object_index`, int64
    [B, window], numbers the subject at each token from 0, with -1 for none. Without it the prompt is read with the
    marker deleted, and no slot is filled. `default` is the marker when the caller names none.
    Source: FastComposer (arXiv 2305.10431).
    """

    default: str
    marks: bool

    def slots(self) -> tuple[str, ...]:
        return ("object_index",) if self.marks else ()

    def options(self) -> tuple[str, ...]:
        return ("marker",)


@dataclass(frozen=True, slots=True)
class Marked:
    """A prompt with its markers read.

    `plain` is the text without them; `input_ids`, int64 [window], the ids without them; `object_index`, int64 [window],
    the number of the subject at each token, -1 for none; `count` how many subjects there are; `notes` are warnings.
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
    if not is_text(marker) or not marker.strip():
        raise InputError(f"marker: expected text such as '<|image|>', got {marker!r}")
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
