"""From the pieces of a mixed prompt to the context that a denoiser reads, by graphs that are called for each piece."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from .weights import KEY_BIAS, KEY_STRETCH, UNREAD, Weighting, key_bias, key_stretch, weighted_context

Encoding = Literal["joint", "separate"]
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)
ITEM_IDS, ITEM_PIXELS, ITEM_EMBEDS = "item_ids", "item_pixels", "item_embeds"
"""Slots that one piece after the other goes through: a text's tokens int64 [1, T], or a picture float32 [1, 3, S, S],
and what a language model reads, float32 [1, L, D]."""
CONTEXT = "context"


@dataclass(frozen=True, slots=True)
class MixedSequence:
    """One side of the guidance: `pieces` in their order, tokens int64 [1, T] or pixels float32 [1, 3, S, S], and what
    each of them weighs."""

    pieces: tuple[np.ndarray, ...]
    weights: tuple[float, ...]


Call = Callable[[str, np.ndarray], np.ndarray]
"""(slot, array) -> what the graph gives that reads this slot."""


def context_slots(
    sequences: Sequence[MixedSequence], encoding: Encoding, weighting: Weighting, call: Call
) -> dict[str, np.ndarray]:
    """The context [rows, T, D] of the sequences, the last of which is drawn, and what its tokens weigh, [rows, T] each.

    A shorter sequence is padded behind its end by tokens that are not read. The weights are the last one's alone.
    """
    encoded = [_encoded(each.pieces, encoding, call) for each in sequences]
    weights = [np.ones(context.shape[1], np.float32) for context, _ in encoded]
    lengths, drawn = encoded[-1][1], sequences[-1].weights
    weights[-1] = np.repeat(np.asarray(drawn, np.float32), lengths)
    longest = max(map(len, weights))
    contexts, biases, stretches = [], [], []
    for (context, _), own in zip(encoded, weights, strict=True):
        padding = longest - len(own)
        contexts.append(np.pad(weighted_context(context, own, weighting), ((0, 0), (0, padding), (0, 0))))
        biases.append(np.pad(key_bias(own, weighting), (0, padding), constant_values=UNREAD))
        stretches.append(np.pad(key_stretch(own, weighting), (0, padding)))
    return {CONTEXT: np.concatenate(contexts), KEY_BIAS: np.stack(biases), KEY_STRETCH: np.stack(stretches)}


def _encoded(pieces: Sequence[np.ndarray], encoding: Encoding, call: Call) -> tuple[np.ndarray, list[int]]:
    """The states of all pieces [1, T, D], and how many are each one's."""
    embedded = [call(ITEM_IDS if piece.dtype == np.int64 else ITEM_PIXELS, piece) for piece in pieces]
    lengths = [each.shape[1] for each in embedded]
    if encoding == "joint":
        return call(ITEM_EMBEDS, np.concatenate(embedded, axis=1)), lengths
    return np.concatenate([call(ITEM_EMBEDS, each) for each in embedded], axis=1), lengths
