"""The strength of a second attention."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Injection:
    """How strong a second attention is: slots `strength` float32 [B] and `token_index` int64 [B].

    `strength` is the default. `at_word` weights it by the attention the placeholder word gets, else it is the same
    everywhere. `unconditional` says whether the unconditional side has it as well.
    """

    strength: float
    at_word: bool
    unconditional: bool

    def slots(self) -> tuple[str, ...]:
        return ("strength", "token_index")

    def options(self) -> tuple[str, ...]:
        return ("strength",)
