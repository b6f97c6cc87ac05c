"""Classifier-free guidance (arXiv 2207.12598): how many rows a call has, and how they become one prediction."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..bundle.records import Finite
from ..token_samplers.log_probabilities import guided_log_probabilities, log_softmax

Rule = Literal["noise", "embedded", "logits", "log_probabilities"]
SAME = 1e-3
"""Scales this near to 1 guide no log-probabilities, as in VQ-Diffusion's code."""


@dataclass(frozen=True, slots=True)
class Guidance:
    """u + scale (c - u), in one batch [unconditional, conditional]; `scale` is the default.

    `rule` says of what: a latents' "noise", where 1 switches it off; "embedded" in the denoiser, which reads the scale
    as its input `guidance` and is called once, as distilled ones are (arXiv 2210.03142); "logits", above 1 alone, as
    Muse has it; or "log_probabilities", made probabilities again, as VQ-Diffusion and DDCap have them, and logits
    become log-probabilities without guidance, too. A `fixed` scale is the only one, where a system is not guided.
    Outputs named in `unguided` are the conditional side's, as a learned variance is.
    """

    scale: Finite = 7.5
    rule: Rule = "noise"
    fixed: bool = False
    unguided: tuple[str, ...] = ()

    def rows(self, scale: float) -> int:
        """Rows of a call at a scale: 2, [unconditional, conditional], or 1 where there is no guidance."""
        off = {"noise": scale == 1.0, "logits": scale <= 1.0, "log_probabilities": abs(scale - 1.0) < SAME}
        return 1 if off.get(self.rule, True) else 2

    def notes(self, scale: float) -> list[str]:
        """One line where a scale takes more than the plan's own, which has no guidance."""
        if self.rows(self.scale) == 2 or self.rows(scale) == 1:
            return []
        return [
            f"guidance: {scale:g} takes twice the time of each step; this bundle was made to draw without; leave it out"
        ]

    def problems(self, scale: float) -> list[str]:
        """One line where a scale is not to be had."""
        if not self.fixed or scale == self.scale:
            return []
        return [f"guidance: expected {self.scale:g}, as this system has no other, got {scale:g}; leave it out"]

    def combined(self, prediction: np.ndarray, rows: int, scale: float, output: str = "") -> np.ndarray:
        """The guided prediction [count, ...] of the float32 rows [rows * count, ...] that a call has for an output."""
        if self.rule == "log_probabilities":
            prediction = log_softmax(prediction)
        if rows == 1:
            return prediction
        unconditional, conditional = np.split(prediction, 2)
        if output in self.unguided:
            return conditional
        if self.rule == "log_probabilities":
            return guided_log_probabilities(unconditional, conditional, scale)
        guided = conditional - unconditional
        guided *= np.float32(scale)
        guided += unconditional
        return guided
