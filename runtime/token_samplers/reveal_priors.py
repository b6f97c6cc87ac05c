"""Which masked tokens a network call reveals, and how many: the two priors of Improved VQ-Diffusion (arXiv 2205.16007).

Instead of drawing each token's state from the posterior, one timestep reveals a fixed number of tokens. Their places
are drawn without replacement, evenly or by purity: the probability of the likeliest class.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from .log_probabilities import LEAST, draw, log_sum_exp, with_mask_class

RevealRule = Literal["uniform", "purity"]
REVEAL_LENGTH = 1024
"""The number of tokens that the counts below add up to."""
FEW_REVEALS = 10
"""With at most so many a call, 100 timesteps have counts of their own."""
REVEAL_COUNTS = {
    10: (69, *(102,) * 8, 139),
    25: (21, *(41,) * 23, 60),
    50: (10, *(21, 20) * 24, 30),
    100: (1, 10, *(11, 10, 10) * 32, 11, 11),
}
"""Tokens revealed at each timestep, by the number of timesteps; at the first, index 0, all are drawn anew."""
FEW_REVEAL_COUNTS = (1, 6, *(11, 10, 10) * 32, 11, 15)
SMALL = np.float32(1e-10)


def reveal_calls(steps: int, most: int) -> list[tuple[int, int]]:
    """(timestep, tokens to reveal) of each network call, where `most` are revealed by one; 0 at the end, where the
    posterior is drawn.

    A last token that would be left alone for a call of its own comes with the call before. `steps` is one of
    `REVEAL_COUNTS`.
    """
    counts = FEW_REVEAL_COUNTS if steps == 100 and most <= FEW_REVEALS else REVEAL_COUNTS[steps]
    calls = []
    for timestep in range(steps - 1, 0, -1):
        left = counts[timestep]
        while left:
            number = left if left - most == 1 else min(left, most)
            calls.append((timestep, number))
            left -= number
    return [*calls, (0, 0)]


@dataclass(frozen=True, slots=True)
class RevealPrior:
    """How places and tokens are chosen; `weight` sharpens the tokens where purity is high, with the rule purity."""

    rule: RevealRule
    weight: float = 0.0

    def reveal(
        self, log_x0: np.ndarray, tokens: np.ndarray, number: int, uniform: np.ndarray, exponential: np.ndarray
    ) -> np.ndarray:
        """`tokens`, int64 [count, length], with `number` masks of each state replaced, or all where it has fewer.

        `log_x0` is float32 [count, length, K]. `uniform`, [count, length, K + 1], draws the tokens; `exponential`,
        [count, length], the places: those come first whose score is the largest multiple of it.
        """
        masked = tokens == log_x0.shape[-1]
        scores = self._scores(log_x0)
        with np.errstate(divide="ignore"):
            race = np.where(masked, scores / exponential, -1)
        first = np.argpartition(-race, number - 1, axis=-1)[:, :number]
        chosen = np.zeros(masked.shape, bool)
        np.put_along_axis(chosen, first, True, axis=-1)
        return np.where(chosen & masked, draw(self._weighted(with_mask_class(log_x0), scores), uniform), tokens)

    def _scores(self, log_x0: np.ndarray) -> np.ndarray:
        """float32 [count, length], the largest of each state about 1."""
        if self.rule == "uniform":
            return np.ones(log_x0.shape[:-1], np.float32)
        purity = np.exp(log_x0.max(axis=-1))
        return purity / (purity.max(axis=-1, keepdims=True) + SMALL)

    def _weighted(self, log_x0: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Probabilities to the power of 1 + weight * score, normalised again."""
        if self.rule == "uniform" or not self.weight:
            return log_x0
        values = log_x0 * (1 + scores * np.float32(self.weight))[..., None]
        values -= log_sum_exp(values)
        return np.clip(values, LEAST, 0, out=values)
