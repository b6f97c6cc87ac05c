"""A context that is composed of several conditions, each of which may be left out (eDiff-I, arXiv 2211.01324).

That an encoder's output becomes zeros where its condition is left out is an assumption: eDiff-I's code was never
released.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, TypedDict, get_args

import numpy as np

from ...errors import InputError
from ..option import CallContext, CallShape, Option, PreparedInputs, Shape, options_of

Condition = Literal["clip-text", "t5", "clip-image"]
CONDITIONS: tuple[Condition, ...] = get_args(Condition)
"""In the order of their tokens in the context."""
KEPT = "kept"


class ContextsOptions(TypedDict, total=False):
    """What a bundle takes whose context is composed."""

    without: Annotated[
        str | Sequence[str] | None,
        Option("choice", "Condition that is left out; may be given several times.", choices=CONDITIONS, several=True),
    ]
    unconditional_keeps: Annotated[
        str | Sequence[str] | None,
        Option(
            "choice",
            "Condition that the side steered away from has, too; guidance strengthens the others. None if left out.",
            choices=CONDITIONS,
            several=True,
        ),
    ]


@dataclass(frozen=True, slots=True)
class ContextsInput:
    """Which of the `conditions` count: the slot `kept`, float32 [rows of the guidance, conditions], 1 or 0.

    The side steered away from has none but a negative prompt's texts, and what the caller lets it keep. The context are
    the states of as many `texts`, and behind them `rest` tokens that are no words: a picture's one.
    """

    KEY: ClassVar[str] = "contexts"
    OPTIONS: ClassVar[tuple[Option, ...]] = options_of(ContextsOptions)

    conditions: tuple[Condition, ...]

    @property
    def texts(self) -> int:
        """How many of the conditions are texts."""
        return len(self.conditions) - self.rest

    @property
    def rest(self) -> int:
        """How many tokens are no words."""
        return self.conditions.count("clip-image")

    def slots(self) -> tuple[str, ...]:
        return (KEPT,)

    def describe(self) -> str:
        return f"context of {', '.join(self.conditions)}; each may be left out"

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        values = call.values
        left, shared = (_listed(values[name]) for name in ("without", "unconditional_keeps"))
        if problems := list(self._problems(left, shared, values)):
            raise InputError(*problems)
        there = [
            one for one in self.conditions if one not in left and (one != "clip-image" or values["style"] is not None)
        ]
        negative = [one for one in there if one != "clip-image"] if values["negative"] else []
        if any(one != "clip-image" for one in shared):
            # Of the texts those that it does not keep are zeros whatever they say.
            made.negative = call.prompt
        sides = [*shared, *negative], there
        made.slots[KEPT] = np.array(
            [[one in side for one in self.conditions] for side in sides[-call.rows :]], np.float32
        )

    def stand_in(self) -> dict[str, Any]:
        return {}

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        return {KEPT: (call.rows, len(self.conditions))}

    def _problems(self, left: Sequence[str], shared: Sequence[str], values: Mapping[str, Any]) -> Iterator[str]:
        for name, given in (("without", left), ("unconditional_keeps", shared)):
            for one in given:
                if one not in self.conditions:
                    yield f"{name}: expected one of this bundle's conditions, {', '.join(self.conditions)}, got {one}"
        for one in shared:
            if one in left or (one == "clip-image" and values["style"] is None):
                yield f"unconditional_keeps: expected a condition that the prompt's side has, got {one}; leave it out"
        if values["negative"] and any(one != "clip-image" for one in shared):
            yield "unconditional_keeps: expected no text beside a negative prompt, which stands there, got both"


def _listed(given: str | Sequence[str] | None) -> Sequence[str]:
    return [] if given is None else [given] if isinstance(given, str) else list(given)
