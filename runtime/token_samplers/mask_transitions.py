"""How tokens turn into others and into the mask: the transitions of mask-and-replace diffusion, its forward process and
its posterior (VQ-Diffusion, arXiv 2111.14822)."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from .log_probabilities import LEAST, LOG_TINY, log_add_exp, log_one_hot
from .row_blocks import for_each_block

ALMOST_NONE = 1e-40
"""Added by the original before it takes the logarithm of what is not masked."""


@dataclass(frozen=True, slots=True, eq=False)
class TransitionShares:
    """What becomes of a token, float64 by timestep: it is kept, turns into a given class (its own among them), or into
    the mask."""

    kept: np.ndarray
    replaced: np.ndarray
    masked: np.ndarray

    @property
    def all_happen(self) -> bool:
        """Whether each of the three has a share at every timestep, so that all logarithms are finite."""
        return bool(min(self.kept.min(), self.replaced.min(), self.masked.min()) > 0)


def transition_shares(
    kept: tuple[float, float], masked: tuple[float, float], steps: int, targets: int
) -> tuple[TransitionShares, TransitionShares]:
    """The shares of one timestep and those of all timesteps up to it, for at least two timesteps.

    The cumulative shares run linearly from the first to the last of `kept` and of `masked`; what is left falls to
    `targets` classes in equal parts.
    """
    ramp = np.arange(steps) / (steps - 1)
    all_kept, all_masked = (ramp * (last - first) + first for first, last in (kept, masked))
    one_kept = all_kept / np.concatenate([[1.0], all_kept[:-1]])
    one_masked = 1 - (1 - all_masked) / (1 - np.concatenate([[0.0], all_masked[:-1]]))
    one, whole = (
        TransitionShares(stays, (1 - stays - lost) / targets, lost)
        for stays, lost in ((one_kept, one_masked), (all_kept, all_masked))
    )
    return one, whole


@dataclass(frozen=True, slots=True, eq=False)
class Transition:
    """The logarithms of transition shares, float32 by timestep, and of the share that is not masked."""

    kept: np.ndarray
    replaced: np.ndarray
    masked: np.ndarray
    unmasked: np.ndarray

    @classmethod
    def of(cls, shares: TransitionShares) -> Self:
        """Taken in float64, as the original does."""
        with np.errstate(divide="ignore"):
            kept, replaced, masked = (np.log(share) for share in (shares.kept, shares.replaced, shares.masked))
            unmasked = np.log(1 - np.exp(masked) + ALMOST_NONE)
        return cls(*(values.astype(np.float32) for values in (kept, replaced, masked, unmasked)))

    def to_itself(self, t: int) -> np.float32:
        """How likely a class leads to itself, as a logarithm."""
        return np.float32(log_add_exp(self.kept[t], self.replaced[t]))

    def to_another(self, t: int) -> np.float32:
        """How likely a class leads to another that is not the mask, in the original's arithmetic."""
        return np.float32(log_add_exp(LOG_TINY + self.kept[t], self.replaced[t]))

    def from_tokens(self, tokens: np.ndarray, classes: int, t: int) -> np.ndarray:
        """What tokens become, int64 [...], as log-probabilities float32 [..., classes + 1]; the last is the mask."""
        values = log_one_hot(tokens, classes + 1)
        real, mask = values[..., :-1], values[..., -1]
        real[...] = log_add_exp(real + self.kept[t], self.replaced[t])
        mask[...] = log_add_exp(mask + self.unmasked[t], self.masked[t])
        return values


@dataclass(frozen=True, slots=True, eq=False)
class MaskTransitions:
    """The transitions of one timestep, [T], and of all up to it, [T + 1]: the last entry, index -1, is the clean state.

    Class `classes` is the mask. With `older_posterior` the mask is as likely a clean token as Diffsound (arXiv
    2207.09983) and the music branch of CDCD (arXiv 2206.07771) have it.
    """

    one: Transition
    whole: Transition
    classes: int
    older_posterior: bool = False

    @classmethod
    def of(cls, one: TransitionShares, whole: TransitionShares, classes: int, older_posterior: bool = False) -> Self:
        """From shares of T timesteps each."""
        ends = ((whole.kept, 1.0), (whole.replaced, 0.0), (whole.masked, 0.0))
        closed = TransitionShares(*(np.append(share, end) for share, end in ends))
        return cls(Transition.of(one), Transition.of(closed), classes, older_posterior)

    def posterior(self, log_x0: np.ndarray, tokens: np.ndarray, t: int) -> np.ndarray:
        """The state before timestep t as log-probabilities, float32 [..., classes + 1], from -70 to 0.

        `tokens`, int64 [...], are the state after it, `log_x0`, float32 [..., classes], what the clean tokens are
        likely to be.
        """
        made = np.empty((*tokens.shape, self.classes + 1), np.float32)
        rows, ids, out = log_x0.reshape(-1, self.classes), tokens.reshape(-1), made.reshape(-1, self.classes + 1)
        for_each_block(*out.shape, lambda block: self._posterior_rows(rows[block], ids[block], t, out[block]))
        return made

    def _posterior_rows(self, log_x0: np.ndarray, ids: np.ndarray, t: int, out: np.ndarray) -> None:
        """q(x_t | x_0) divides log_x0, one step back is taken from there, and q(x_t | x_{t-1}) weighs what is reached.

        For a token both have one value at its class and one at all others; for the mask, one at all classes.
        """
        real, mask, masked = out[:, :-1], out[:, -1], ids == self.classes
        own = np.flatnonzero(~masked), ids[~masked]
        np.subtract(log_x0, np.where(masked, self.whole.masked[t], self.whole.to_another(t))[:, None], out=real)
        real[own] = log_x0[own] - self.whole.to_itself(t)
        mask[:] = np.where(masked, LEAST, LEAST - LOG_TINY) if self.older_posterior else LOG_TINY
        scale = self._step_back(out, t - 1)
        found = real[own]
        real += (scale + np.where(masked, self.one.masked[t], self.one.to_another(t)))[:, None]
        real[own] = found + (scale[own[0]] + self.one.to_itself(t))
        mask += scale + np.where(masked, np.float32(0), LOG_TINY)
        np.clip(out, LEAST, 0, out=out)

    def _step_back(self, out: np.ndarray, t: int) -> np.ndarray:
        """Turns clean tokens, unnormalised logarithms [n, classes + 1], into the state after timestep t, normalised, in
        place; returns the logarithm of what they added up to, [n]."""
        if t < 0:
            # The state before the first timestep is the clean one, and normalising would be undone.
            return np.zeros(len(out), np.float32)
        most = out.max(axis=-1, keepdims=True)
        out -= most
        np.exp(out, out=out)
        total = out.sum(axis=-1, keepdims=True)
        real, mask = out[:, :-1], out[:, -1:]
        # Shares may be added here: those of being replaced and masked are too large for any term to vanish.
        real *= np.exp(self.whole.kept[t]) / total
        real += np.exp(self.whole.replaced[t])
        mask *= np.exp(self.whole.unmasked[t]) / total
        mask += np.exp(self.whole.masked[t])
        np.log(out, out=out)
        return np.ravel(most + np.log(total))
