"""One modality of a joint state: what its tokens were one timestep earlier, and how they are drawn (UniD3, arXiv
2211.14842).

A token may be of either modality, wherever it stands. The network gives the classes of the other one no probability: at
each place they have one value in common, save for the one that stands there, and only that with the largest draw can
come of them.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from ..log_probabilities import LEAST, draw, gumbel, log_add_exp
from ..mask_transitions import MaskTransitions, Transition, transition_shares

KEPT, MASKED = (0.99999, 0.000009), (0.000009, 0.99999)
"""Shares of the tokens that are kept, and that are masked, at the first timestep and at the last."""


@dataclass(frozen=True, slots=True, eq=False)
class EarlierTokens:
    """Log-probabilities of a modality's tokens, float32: `values` [count, length, classes + 2] of each class, of any
    class of the other modality, and of the mask; `standing` [count, length] of that class of the other modality which
    stands there, where one does."""

    values: np.ndarray
    standing: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Modality:
    """The `length` places of a state from `first` on; its `classes` ids begin at `offset`, and `mask` is the mask's.

    `own` are the transitions of its classes and of one more, which stands for any of the other modality; `other` are
    the other modality's.
    """

    first: int
    length: int
    offset: int
    classes: int
    mask: int
    own: MaskTransitions
    other: MaskTransitions

    @property
    def places(self) -> slice:
        """Where it is in a state."""
        return slice(self.first, self.first + self.length)

    @property
    def other_ids(self) -> slice:
        """The other modality's classes among the ids of a state."""
        return slice(0, self.offset) if self.offset else slice(self.classes, self.mask)

    def joint(self, tokens: np.ndarray) -> np.ndarray:
        """Tokens from 0 to `classes`, the mask, as a state has them."""
        return np.where(tokens == self.classes, self.mask, tokens + self.offset)

    def posterior(self, log_x0: np.ndarray, state: np.ndarray, t: int, divided_as_other: bool = False) -> EarlierTokens:
        """The tokens before timestep t, from the state after it, int64 [count, L], and from what the clean ones are
        likely to be, float32 [count, length, classes].

        With `divided_as_other` these are divided by the chances of the other modality's classes, as in the authors'
        code where pictures are drawn from captions.
        """
        tokens = self._read(state)
        divisor, own = (self.other if divided_as_other else self.own).whole, self.own.whole
        extended = np.concatenate([log_x0, np.full((*tokens.shape, 1), LEAST, np.float32)], axis=-1)
        scale = _scale(extended, tokens, divisor, t)
        if divided_as_other:
            standing = np.nonzero(tokens <= self.classes)
            at = (*standing, tokens[standing])
            found = extended[at] + (own.to_itself(t) - divisor.to_itself(t))
            extended[standing] += own.to_another(t) - divisor.to_another(t)
            extended[at] = found
        values = self.own.posterior(extended, tokens, t)
        whole, one, masked = self.other.whole, self.other.one, tokens > self.classes
        divided = np.where(masked, whole.masked[t], whole.to_another(t))
        weighed = np.where(masked, one.masked[t], one.to_another(t))
        values[..., self.classes] = self._unlikely(divided, weighed, scale, t)
        return EarlierTokens(values, self._unlikely(whole.to_itself(t), one.to_itself(t), scale, t))

    def renoised(self, log_x0: np.ndarray, t: int) -> EarlierTokens:
        """The tokens after timestep t, from what the clean ones are likely to be, float32 [count, length, classes]."""
        own, other = self.own.whole, self.other.whole
        real = log_add_exp(log_x0 + own.kept[t], own.replaced[t])
        unlikely = log_add_exp(LEAST + other.kept[t], other.replaced[t])
        mask = log_add_exp(LEAST + own.unmasked[t], own.masked[t])
        ends = np.broadcast_to(np.stack([unlikely, mask]), (*real.shape[:-1], 2))
        return EarlierTokens(np.concatenate([real, ends], axis=-1), np.broadcast_to(unlikely, real.shape[:-1]))

    def draw(self, earlier: EarlierTokens, state: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """A state's tokens at its places, int64 [count, length], by a uniform draw for every id, [count, length, mask +
        1]; `state` is what stood there."""
        others, values = uniform[..., self.other_ids], earlier.values
        best = others.argmax(axis=-1)
        draws = np.take_along_axis(others, best[..., None], axis=-1)
        at = np.nonzero(self._read(state) == self.classes)
        if len(at[0]):
            there = state[:, self.places][at] - self.other_ids.start
            rest, rows = others[at], np.arange(len(there))
            own = rest[rows, there]
            rest[rows, there] = -1
            rival = rest.argmax(axis=-1)
            column = (*at, np.full(len(there), self.classes))
            value = values[column]
            stays = earlier.standing[at] + gumbel(own) > value + gumbel(rest[rows, rival])
            best[at] = np.where(stays, there, rival)
            draws[at] = np.where(stays, own, rest[rows, rival])[:, None]
            values = values.copy()
            values[column] = np.where(stays, earlier.standing[at], value)
        ids = slice(self.offset, self.offset + self.classes)
        columns = np.concatenate([uniform[..., ids], draws, uniform[..., self.mask :]], axis=-1)
        drawn = draw(values, columns)
        found = np.where(drawn < self.classes, drawn + self.offset, best + self.other_ids.start)
        return np.where(drawn > self.classes, self.mask, found)

    def _read(self, state: np.ndarray) -> np.ndarray:
        """Its places of a state: its classes from 0 on, then one for all of the other modality, then the mask."""
        tokens = state[:, self.places]
        own = tokens - self.offset
        kinds = np.where(tokens == self.mask, self.classes + 1, self.classes)
        return np.where((own >= 0) & (own < self.classes), own, kinds)

    def _unlikely(
        self, divided: np.ndarray | np.floating, weighed: np.ndarray | np.floating, scale: np.ndarray, t: int
    ) -> np.ndarray:
        """The posterior of a class of the other modality, which has no probability as a clean one."""
        whole = self.other.whole
        before = log_add_exp(LEAST - divided - scale + whole.kept[t - 1], whole.replaced[t - 1])
        return np.clip(before + weighed + scale, LEAST, 0)


def _scale(log_x0: np.ndarray, tokens: np.ndarray, divisor: Transition, t: int) -> np.ndarray:
    """The logarithm of what likely clean tokens add up to, [count, length], each divided by its chance to have led to
    the token that stands there, of which those beyond its last class are masks."""
    masked = tokens == log_x0.shape[-1]
    at = np.where(masked, 0, tokens)[..., None]
    here = np.where(masked, 0, np.exp(np.take_along_axis(log_x0, at, axis=-1)[..., 0]))
    elsewhere = np.exp(log_x0).sum(axis=-1) - here
    chance = np.where(masked, divisor.masked[t], divisor.to_another(t))
    return np.log(np.maximum(elsewhere, 0) / np.exp(chance) + here / np.exp(divisor.to_itself(t)))


@cache
def modalities(
    image_length: int, image_classes: int, text_length: int, text_classes: int, steps: int
) -> dict[str, Modality]:
    """The picture's and the caption's, `image` and `text`, of a schedule of so many steps."""
    mask = image_classes + text_classes
    image, text = (
        MaskTransitions.of(*transition_shares(KEPT, MASKED, steps, classes), classes + 1)
        for classes in (image_classes, text_classes)
    )
    return {
        "image": Modality(0, image_length, 0, image_classes, mask, image, text),
        "text": Modality(image_length, text_length, image_classes, text_classes, mask, text, image),
    }
