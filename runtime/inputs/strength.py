"""How strong a second attention is (ELITE, arXiv 2302.13848; IP-Adapter, arXiv 2308.06721)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..bundle.records import Finite
from .option import CallContext, CallShape, Option, PreparedInputs, Shape, is_number, options_of, short
from .pictures.options import StrengthOptions

FLOAT32_MOST = float(np.finfo(np.float32).max)
"""The graphs read float32, in which a larger strength is infinite."""


@dataclass(frozen=True, slots=True)
class Injection:
    """How strong a second attention is: slots `strength` float32 [B] and `token_index` int64 [B].

    `strength` is the default. `at_word` weights it by the attention the placeholder word gets, else it is the same
    everywhere. `unconditional` says whether the unconditional side has it as well.
    """

    KEY: ClassVar[str] = "injection"
    OPTIONS: ClassVar[tuple[Option, ...]] = options_of(StrengthOptions)

    strength: Finite
    at_word: bool
    unconditional: bool

    def slots(self) -> tuple[str, ...]:
        return ("strength", "token_index")

    def describe(self) -> str:
        where = "where the word is attended to" if self.at_word else "everywhere"
        return f"strength ({self.strength:g}), {where}, {'both sides' if self.unconditional else 'conditional side'}"

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        given, global_only = call.values["strength"], call.values["global_only"]
        strength = self.strength if given is None else given
        if not is_number(strength) or abs(strength) > FLOAT32_MOST:
            made.problems.append(f"strength: expected a finite number such as {self.strength}, got {short(strength)}")
            return
        conditional = 0.0 if global_only else strength
        strengths = [conditional if self.unconditional else 0.0, conditional]
        made.slots["strength"] = np.asarray(strengths[-call.rows :], np.float32)
        word = made.slots.get("word_index")
        index = -1 if word is None or not self.at_word else word[-1]
        made.slots["token_index"] = np.full(call.rows, index, np.int64)

    def stand_in(self) -> dict[str, Any]:
        return {}

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        return {name: (call.rows,) for name in self.slots()}
