"""The prompt: what reads it, and in which language."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypedDict

from ...bundle.records import Index, Window
from ..option import CallContext, CallShape, Option, PreparedInputs, Shape, options_of

STAND_IN_PROMPT = "a red S"


class PromptOptions(TypedDict, total=False):
    """What goes with a prompt."""

    language: Annotated[str | None, Option("text", "Language of the prompt, for a bundle with translators.")]
    negative: Annotated[str, Option("text", "Text to steer away from.", default="", checked_by_input=True)]


@dataclass(frozen=True, slots=True)
class TextInput:
    """How a prompt becomes the slots `input_ids` and `attention_mask`, both int64 [B, window].

    `tokenizer` is a file of the bundle; a longer prompt is cut so that it still ends with the closing special token.
    `clip_skip` counts the last layers of the text encoder that the prompt, and not the negative one, leaves out. An
    `optional` prompt may be missing; then its conditioner is passed by, or with `blank` an empty one is read. `cleans`
    is the Tokenizer's.
    """

    KEY: ClassVar[str] = "text"
    OPTIONS: ClassVar[tuple[Option, ...]] = options_of(PromptOptions)

    tokenizer: str
    window: Window
    pad_id: Index
    clip_skip: Index = 0
    optional: bool = False
    cleans: bool = False
    blank: bool = False

    def slots(self) -> tuple[str, ...]:
        return ("input_ids", "attention_mask")

    def describe(self) -> str:
        skipped = f", without the last {self.clip_skip} layers" if self.clip_skip else ""
        return f"prompt, {self.tokenizer}, window of {self.window} tokens{skipped}"

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        """Nothing: each conditioner tokenizes for itself."""

    def stand_in(self) -> dict[str, Any]:
        return {"prompt": STAND_IN_PROMPT}

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        return {name: (call.rows, self.window) for name in self.slots()}
