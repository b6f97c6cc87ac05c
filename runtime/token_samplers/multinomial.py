"""The multinomial process: each token is kept or drawn anew from all classes, and no class stands for a mask.

Source: multinomial diffusion (arXiv 2102.05379), in the arithmetic of UniD3's code (arXiv 2211.14842), whose class of
that name stands for VQ-DDM's sampler (arXiv 2112.01799) as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, ClassVar, Literal

import numpy as np

from ..bundle.records import Count
from ..inputs.option import CallContext, CallShape, NamedTensors, Option, PreparedInputs, Shape, is_count, short
from .log_probabilities import LOG_TINY, draw, gumbel, log_add_exp, log_sum_exp
from .sampler import TokenRun, TokenStep, TokenWalk

COSINE_OFFSET = 0.008
LEAST_KEPT = 0.001
"""What is kept of a token's level in one step, squared, at the least."""


@dataclass(frozen=True, slots=True)
class UniformTables:
    """Logarithms of a schedule of T steps, float32 [T] each: of the share of tokens that one step keeps, and that all
    steps so far keep, with those of the shares that they draw anew."""

    kept: np.ndarray
    renewed: np.ndarray
    kept_so_far: np.ndarray
    renewed_so_far: np.ndarray


@cache
def cosine_tables(steps: int) -> UniformTables:
    """The cosine schedule (arXiv 2102.09672) of `steps` steps, of which each keeps the square root of the ratio of two
    levels. Computed in float64."""
    places = np.linspace(0, steps + 1, steps + 1) / (steps + 1)
    levels = np.cos((places + COSINE_OFFSET) / (1 + COSINE_OFFSET) * np.pi / 2) ** 2
    kept = np.log(np.sqrt(np.clip(levels[1:] / levels[:-1], LEAST_KEPT, 1.0)))
    both = [kept, np.cumsum(kept)]
    one, all_so_far = (value.astype(np.float32) for value in both)
    renewed, renewed_so_far = (np.log(1 - np.exp(value) + 1e-40).astype(np.float32) for value in both)
    return UniformTables(one, renewed, all_so_far, renewed_so_far)


@dataclass(frozen=True, slots=True)
class MultinomialDiffusion:
    """`steps` steps over tokens of `classes` classes, from tokens drawn evenly: one call and one draw a step.

    Draws: `start` once and `draw` at each step, uniform [length, classes]. Where the run's slots hold `start_tokens`,
    int64 [1 or count, length], and `known`, bool of that shape, those tokens stand there from the start on.
    """

    KEY: ClassVar[str] = "sampler"
    OUTPUTS: ClassVar[tuple[str, ...]] = ("logits",)
    OPTIONS: ClassVar[tuple[Option, ...]] = ()

    name: Literal["multinomial"] = field(default="multinomial", init=False)
    classes: Count
    steps: Count

    def problems(self) -> list[str]:
        """None: it walks with any numbers."""
        return []

    def slots(self) -> tuple[str, ...]:
        return ()

    def describe(self) -> str:
        return f"multinomial diffusion, {self.steps} steps, {self.classes} classes"

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        if {"start_pixels", "start_tokens"} & made.slots.keys() and "known" not in made.slots:
            made.problems.append("mask: expected what is drawn anew, got none; give mask, or leave the picture out")
        if (count := call.values["steps"]) is not None and (not is_count(count, self.steps) or count != self.steps):
            made.problems.append(f"steps: expected {self.steps}, which are walked one by one, got {short(count)}")

    def stand_in(self) -> dict[str, Any]:
        return {}

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        return {}

    def step_count(self, run: TokenRun) -> int:
        """All steps of the schedule."""
        return self.steps

    def walk(self, run: TokenRun) -> TokenWalk:
        """From the last timestep to 0, which is drawn as the others are."""
        shape = (run.length, self.classes)
        tokens = with_known(gumbel(run.noise.uniform("start", shape)).argmax(axis=-1), run.slots)
        for timestep in reversed(range(self.steps)):
            logits = run.predict(tokens, timestep)["logits"]
            log_clean = logits - log_sum_exp(logits)
            posterior = self.posterior(log_clean, tokens, timestep)
            tokens = with_known(draw(posterior, run.noise.uniform("draw", shape)), run.slots)
            sent = yield TokenStep(timestep, tokens, partial(log_clean.argmax, axis=-1))
            tokens = tokens if sent is None else sent

    def posterior(self, log_clean: np.ndarray, tokens: np.ndarray, timestep: int) -> np.ndarray:
        """Log-probabilities of the tokens one step earlier, float32 [..., K], from those of the clean ones, of the same
        shape, and the present tokens, int64 [...]. At timestep 0 the clean ones are those one step earlier."""
        tables = cosine_tables(self.steps)
        earlier = log_clean
        if timestep > 0:
            earlier = self._blurred(log_clean, tables.kept_so_far[timestep - 1], tables.renewed_so_far[timestep - 1])
        # What one step makes of a token has two values: one at the token, one at all others.
        kept, renewed = tables.kept[timestep], tables.renewed[timestep]
        here, elsewhere = self._blurred(np.array([0, LOG_TINY], np.float32), kept, renewed)
        joint = earlier + elsewhere
        at = tokens[..., None]
        np.put_along_axis(joint, at, np.take_along_axis(earlier, at, axis=-1) + here, axis=-1)
        return joint - log_sum_exp(joint)

    def _blurred(self, values: np.ndarray, kept: np.float32, renewed: np.float32) -> np.ndarray:
        """What is left of log-probabilities when a share is kept and the rest drawn evenly."""
        return log_add_exp(values + kept, renewed - np.float32(np.log(self.classes)))


def with_known(tokens: np.ndarray, slots: NamedTensors) -> np.ndarray:
    """The tokens, int64 [count, length], with those of the slot `start_tokens` where the slot `known` is true."""
    return np.where(slots["known"], slots["start_tokens"], tokens) if "known" in slots else tokens
