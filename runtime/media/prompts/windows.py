"""The windows of a prompt as the text encoder reads them, and its states weighted."""

from dataclasses import dataclass

import numpy as np

from ...errors import InputError
from ..tokenizer import Tokenizer
from .reading import PromptReading, PromptStyle

MOST_WINDOWS = 64
"""Of one prompt: 4800 tokens of CLIP's."""
CUT = -1
"""The place of a token that is not drawn."""


@dataclass(frozen=True, slots=True)
class PromptWindows:
    """n windows, one row each: `input_ids` and `attention_mask`, int64 [n, window], and `weights`, float32 [n, window].

    `places` are those of the reading's tokens among the n * window, or CUT; `cut` is the text that did not fit ("").
    """

    input_ids: np.ndarray
    attention_mask: np.ndarray
    weights: np.ndarray
    places: tuple[int, ...]
    cut: str

    def padded(self, count: int, tokenizer: Tokenizer) -> "PromptWindows":
        """So many windows, empty ones behind those that there are."""
        more = count - len(self.input_ids)
        if not more:
            return self
        ids, mask, weights = _windows([()] * more, tokenizer)
        return PromptWindows(
            np.concatenate([self.input_ids, ids]),
            np.concatenate([self.attention_mask, mask]),
            np.concatenate([self.weights, weights]),
            self.places,
            self.cut,
        )


def windows_of(reading: PromptReading, tokenizer: Tokenizer, style: PromptStyle) -> PromptWindows:
    """The prompt's tokens in windows, each opened, closed and padded by itself; without `long` in one, which cuts them.

    A window takes as many tokens as it holds, and a break begins a new one; one that stands before or behind another
    break leaves a window empty. Raises InputError for more than MOST_WINDOWS.
    Source: AUTOMATIC1111's web UI, which also looks for a comma to part windows at, unless it is told not to.
    """
    opening, closing = tokenizer.around()
    room = tokenizer.window - len(opening) - len(closing)
    bounds = _bounds(reading, room) if style.long else [(0, min(room, len(reading.ids)))]
    if len(bounds) > MOST_WINDOWS:
        raise InputError(f"prompt: expected at most {MOST_WINDOWS} windows, got {len(bounds)}; shorten it")
    places = np.full(len(reading.ids), CUT)
    for number, (first, last) in enumerate(bounds):
        places[first:last] = number * tokenizer.window + len(opening) + np.arange(last - first)
    rows = [tuple(zip(reading.ids[a:b], reading.weights[a:b], strict=True)) for a, b in bounds]
    rest = bounds[-1][1]
    cut = reading.text[reading.spans[rest][0] :].strip() if rest < len(reading.ids) else ""
    return PromptWindows(*_windows(rows, tokenizer), tuple(places.tolist()), cut)


def weighted_states(states: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """float32 states [B, window, D] times the weights [B, window] of their tokens, each row brought back to the mean
    that it had; rows without a weight stay as they are, to the bit.

    Source: AUTOMATIC1111's web UI, "Original" emphasis.
    """
    if (weights == 1).all():
        return states
    made = states.copy()
    for row in np.flatnonzero((weights != 1).any(axis=1)):
        weighted = states[row] * weights[row][:, None]
        mean, reached = states[row].mean(dtype=np.float64), weighted.mean(dtype=np.float64)
        made[row] = weighted * np.float32(mean / reached) if reached else weighted
    return made


def _bounds(reading: PromptReading, room: int) -> list[tuple[int, int]]:
    """First and last count of tokens of each window."""

    def filled(first: int, last: int) -> list[tuple[int, int]]:
        return [(begin, min(begin + room, last)) for begin in range(first, last, room)]

    bounds, first = list[tuple[int, int]](), 0
    for last in reading.breaks:
        bounds += filled(first, last) or [(last, last)]
        first = last
    return bounds + filled(first, len(reading.ids)) or [(0, 0)]


def _windows(
    rows: list[tuple[tuple[int, float], ...]] | list[tuple[()]], tokenizer: Tokenizer
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids, masks and weights of windows with these tokens and weights."""
    opening, closing = tokenizer.around()
    shape = len(rows), tokenizer.window
    ids, mask = np.full(shape, tokenizer.pad_id, np.int64), np.zeros(shape, np.int64)
    weights = np.ones(shape, np.float32)
    for number, row in enumerate(rows):
        own = [*opening, *(token for token, _ in row), *closing]
        ids[number, : len(own)], mask[number, : len(own)] = own, 1
        weights[number, len(opening) : len(opening) + len(row)] = [weight for _, weight in row]
    return ids, mask, weights
