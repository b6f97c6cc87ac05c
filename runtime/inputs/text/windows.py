"""Prompts of several windows, and of words with weights, as AUTOMATIC1111's web UI reads them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypedDict

from ...media.prompts.reading import PromptStyle, read_prompt
from ...media.prompts.windows import windows_of
from ...media.tokenizer import is_text
from ..option import CallContext, CallShape, Option, PreparedInputs, Shape, options_of

AGAIN = "leave it out, or export the bundle again with this x2i, which may bring it"


class WindowsOptions(TypedDict, total=False):
    """How the prompt and the negative prompt are read."""

    long_prompt: Annotated[
        bool,
        Option(
            "flag",
            "Read a prompt longer than the encoder's window in several; BREAK begins a new one.",
            default=False,
            absent=AGAIN,
        ),
    ]
    weights: Annotated[
        bool,
        Option(
            "flag",
            "Read (word), [word] and (word:1.3) in prompts as more and less weight.",
            default=False,
            absent=AGAIN,
        ),
    ]


@dataclass(frozen=True, slots=True)
class WindowsInput:
    """The text's states are in the slot `states`, [B, window, D], behind the stage that fills it first. Words may have
    weights there; of a prompt of several windows each is encoded by itself, and their states are put end to end.
    """

    KEY: ClassVar[str] = "windows"
    OPTIONS: ClassVar[tuple[Option, ...]] = options_of(WindowsOptions)

    states: str

    def slots(self) -> tuple[str, ...]:
        return ()

    def describe(self) -> str:
        return "several windows, weights"

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        """Reads both prompts, so that what is wrong with them is told before anything is opened."""
        style, tokenizer = PromptStyle.of(call.values), made.tokenizer or call.tokenizer
        texts = (call.prompt, call.values["negative"] if call.rows == 2 else "")
        if style.plain or tokenizer is None or not all(map(is_text, texts)):
            return
        readings = [read_prompt(text, tokenizer, style) for text in texts if isinstance(text, str)]
        made.windows = max(len(windows_of(reading, tokenizer, style).input_ids) for reading in readings)

    def stand_in(self) -> dict[str, Any]:
        return {}

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        return {}
