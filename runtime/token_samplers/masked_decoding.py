"""Masked decoding: every masked token is drawn at once, and the least certain ones are masked again.

Source: MaskGIT (arXiv 2202.04200) and Muse (arXiv 2301.00704), in the float32 arithmetic of diffusers' AmusedScheduler.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, TypedDict

import numpy as np

from ..bundle.records import Amount, Count, Index, Share
from ..errors import InputError
from ..inputs.option import (
    CallContext,
    CallShape,
    Option,
    PreparedInputs,
    Shape,
    is_count,
    is_number,
    options_of,
    short,
)
from ..inputs.sampling import MOST_STEPS
from .row_blocks import for_each_block
from .sampler import TokenRun, TokenStep, TokenWalk

SURE = np.finfo(np.float32).max
"""What stands for the probability of a token that was given, so that it is never masked again."""
LEAST_PROBABILITY = np.float32(1e-20)
LEAST_DRAW = np.float32(1e-10)
"""A draw of exactly 0 would win with any class, one of probability 0 among them."""
LAST_TEMPERATURE = 0.01
"""Where a single temperature goes."""
MaskSchedule = Literal["cosine", "linear"]


class MaskedDecodingOptions(TypedDict, total=False):
    """How much chance there is in what is masked again."""

    temperature: Annotated[
        float | Sequence[float] | None,
        Option(
            "number",
            "Chance in which tokens are drawn again, of the first step; given twice, of the first and the last.",
            least=0,
            most=1e30,
            several=True,
        ),
    ]


@dataclass(frozen=True, slots=True)
class MaskedDecoding:
    """`classes` ids are drawn where a state holds `mask_id`; `mask_schedule` says how many are masked after each step.

    `temperature` goes from the first of the pair to the second. A start from a picture's tokens is masked at random as
    far as the schedule is behind its first step; `strength` is the share of the steps that remains, where the caller
    says nothing. Reads the slots `start_tokens`, int64 [1 or count, N], and `known`, bool [1 or count, N]: with it all
    else is masked, and the schedule is linear, as diffusers' inpainting has it. Draws `token`, exponential [N, classes]
    at each step, then `confidence`, uniform [N], at each but the last; and before them `start`, uniform [N].
    """

    KEY: ClassVar[str] = "sampler"
    OUTPUTS: ClassVar[tuple[str, ...]] = ("logits",)
    OPTIONS: ClassVar[tuple[Option, ...]] = options_of(MaskedDecodingOptions)

    name: Literal["masked_decoding"] = field(default="masked_decoding", init=False)
    classes: Count
    mask_id: Index
    steps: Count = 12
    mask_schedule: MaskSchedule = "cosine"
    temperature: tuple[Amount, Amount] = (2.0, 0.0)
    strength: Share = 0.5

    def problems(self) -> list[str]:
        """None: it walks with any numbers."""
        return []

    def slots(self) -> tuple[str, ...]:
        return ()

    def describe(self) -> str:
        first, last = self.temperature
        return f"masked decoding, {self.steps} steps, {self.mask_schedule}, temperature {first:g} to {last:g}"

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        temperature, strength = call.values["temperature"], call.values["strength"]
        if not is_count(call.steps, MOST_STEPS):
            raise InputError(f"steps: expected a whole number from 1 to {MOST_STEPS}, got {short(call.steps)}")
        if isinstance(temperature, list | tuple) and not 1 <= len(temperature) <= 2:
            made.problems.append(f"temperature: expected one or two numbers, got {len(temperature)}; give the ends")
        if not is_number(strength):
            return
        if 0 <= strength <= 1 and int(call.steps * strength) < 1:
            made.problems.append(
                f"strength: expected at least {1 / call.steps:.3g}, one of {call.steps} steps, got {short(strength)}"
            )
        if strength == 1 and call.values["mask"] is None:
            made.notes.append(
                "strength: at 1 nothing of the start is masked, as in diffusers, and the picture hardly changes; give "
                "less than 1"
            )

    def stand_in(self) -> dict[str, Any]:
        return {}

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        return {}

    def step_count(self, run: TokenRun) -> int:
        """The share of the steps that the strength is, without a fraction."""
        return int(self._whole_count(run) * self._strength(run))

    def walk(self, run: TokenRun) -> TokenWalk:
        """The last steps of the schedule; `likely` gives the state before it is masked again."""
        steps = self._whole_count(run)
        first = steps - self.step_count(run)
        tokens = self._start(run, first, steps)
        share, schedule = np.float32(1), self.mask_schedule
        if "known" in run.slots:
            # One share for all pictures of a batch, whose masks may differ.
            share, schedule = np.float32((tokens == self.mask_id).sum()) / np.float32(tokens.size), "linear"
        temperatures = annealed(self._temperature(run), steps)
        for index in range(first, steps):
            logits = run.predict(tokens, steps - 1 - index)["logits"].reshape(*tokens.shape, self.classes)
            race = run.noise.exponential("token", (run.length, self.classes))
            drawn, sureness = drawn_tokens(tokens, logits, race, self.mask_id)
            tokens = drawn
            if index < steps - 1:
                most = masked_most(run.length, share * mask_ratio(schedule, index + 1, steps))
                uniform = run.noise.uniform("confidence", (run.length,))
                tokens = masked_again(drawn, sureness, most, temperatures[index], uniform, self.mask_id)
            sent = yield TokenStep(steps - 1 - index, tokens, partial(np.copy, drawn))
            tokens = tokens if sent is None else sent

    def _whole_count(self, run: TokenRun) -> int:
        steps = run.values.get("steps")
        return self.steps if steps is None else int(steps)

    def _temperature(self, run: TokenRun) -> tuple[float, float]:
        temperature = run.values.get("temperature")
        if temperature is None:
            return self.temperature
        first, *last = temperature if isinstance(temperature, list | tuple) else [temperature]
        return first, last[0] if last else LAST_TEMPERATURE

    def _strength(self, run: TokenRun) -> float:
        """The share of the steps that is walked; all of them where no picture is redrawn."""
        strength, slots = run.values.get("strength"), run.slots
        if strength is not None:
            return float(strength)
        redraws = "start_tokens" in slots and "known" not in slots and run.values.get("tokens") is None
        return self.strength if redraws else 1.0

    def _start(self, run: TokenRun, first: int, steps: int) -> np.ndarray:
        """The tokens before the step number `first` of all `steps`."""
        given, known = run.slots.get("start_tokens"), run.slots.get("known")
        shape = run.count, run.length
        if given is None:
            return np.full(shape, self.mask_id, np.int64)
        given = np.broadcast_to(given.reshape(len(given), run.length), shape)
        if known is not None:
            return np.where(known.reshape(len(known), run.length), given, self.mask_id)
        # Before a first step of all there is the last of another walk: nothing is masked.
        ratio = mask_ratio(self.mask_schedule, first or steps, steps)
        return given if ratio <= 0 else np.where(run.noise.uniform("start", (run.length,)) < ratio, self.mask_id, given)


def drawn_tokens(
    tokens: np.ndarray, logits: np.ndarray, race: np.ndarray, mask_id: int
) -> tuple[np.ndarray, np.ndarray]:
    """`tokens` int64 [B, N] with the masked ones drawn, and how sure each is, float32 [B, N]: its probability, or SURE
    where it stood already.

    Drawn is from float32 `logits` [B, N, K] by a race of exponential draws, float32 [B, N, K], as torch.multinomial
    draws on a CPU.
    """
    places = np.flatnonzero(tokens == mask_id)
    rows, draws = (values.reshape(-1, values.shape[-1]) for values in (logits, race))
    drawn, sureness = tokens.flatten(), np.full(tokens.size, SURE, np.float32)

    def work(block: slice) -> None:
        masked = places[block]
        weights = rows[masked]
        weights -= weights.max(axis=-1, keepdims=True)
        np.exp(weights, out=weights)
        weights /= weights.sum(axis=-1, keepdims=True)
        chosen = (weights / np.maximum(draws[masked], LEAST_DRAW)).argmax(axis=-1)
        drawn[masked] = chosen
        sureness[masked] = np.take_along_axis(weights, chosen[:, None], axis=-1)[:, 0]

    for_each_block(len(places), rows.shape[-1], work)
    return drawn.reshape(tokens.shape), sureness.reshape(tokens.shape)


def masked_again(
    drawn: np.ndarray, sureness: np.ndarray, most: int, temperature: np.float32, uniform: np.ndarray, mask_id: int
) -> np.ndarray:
    """`drawn` int64 [B, N] with the least sure of each row masked: `most`, but fewer than were drawn in it, and one at
    least. Gumbel noise of the `uniform` draws, float32 [B, N], times the temperature shifts what is sure."""
    gumbel = -np.log(np.maximum(-np.log(np.maximum(uniform, LEAST_PROBABILITY)), LEAST_PROBABILITY))
    confidence = np.log(np.maximum(sureness, LEAST_PROBABILITY)) + temperature * gumbel
    counts = np.maximum(1, np.minimum((sureness < SURE).sum(axis=-1) - 1, most))
    # A picture of a single token has no second.
    places = np.minimum(counts, drawn.shape[-1] - 1)[:, None]
    cut = np.take_along_axis(np.sort(confidence, axis=-1), places, axis=-1)
    return np.where(confidence < cut, mask_id, drawn)


def masked_most(length: int, ratio: np.float32) -> int:
    """The tokens of `length` that a float32 share of them is, without a fraction, in float32."""
    return int(np.floor(np.float32(length) * ratio))


def mask_ratio(schedule: MaskSchedule, step: int, steps: int) -> np.float32:
    """The share of the tokens that is masked after `step` of `steps`, counted from 1, in float32.

    A cosine of float64 is rounded: so it is the same on every machine, and just below a half at two thirds of the way,
    where that of float32 arguments is.
    """
    passed = np.float32(step) / np.float32(steps)
    if schedule == "linear":
        return np.float32(1) - passed
    angle = passed * np.float32(np.pi) / np.float32(2)
    return np.float32(np.cos(np.float64(angle)))


def annealed(temperature: tuple[float, float], steps: int) -> np.ndarray:
    """float32 [steps] from the first to the last, each counted from the nearer end, as torch.linspace counts.

    A product and its sum are rounded once, as by the fused operation there.
    """
    first, last = (np.float32(end) for end in temperature)
    width = float((last - first) / np.float32(max(steps - 1, 1)))
    places = np.arange(steps)
    rising, falling = float(first) + width * places, float(last) - width * (steps - 1 - places)
    return np.where(places < max(steps // 2, 1), rising, falling).astype(np.float32)
