"""From which call of the denoiser on the subjects are seen (FastComposer's delayed conditioning, arXiv 2305.10431)."""

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Annotated, Any, ClassVar, TypedDict

from ..bundle.records import Index
from .option import CallContext, CallShape, Option, PreparedInputs, Shape, is_number, options_of, short


class DelayOptions(TypedDict, total=False):
    """How long the text alone is seen."""

    alpha: Annotated[
        float | None,
        Option(
            "number",
            "Share of the run, at its end, that sees the subjects (the authors' alpha).",
            least=0,
            most=1,
            flag="--delay",
            checked_by_input=True,
        ),
    ]
    start_merge_step: Annotated[
        int | None,
        Option(
            "count",
            "Instead: the last UNet call that sees the text alone, from 0.",
            least=0,
            checked_by_input=True,
        ),
    ]


@dataclass(frozen=True, slots=True)
class Delay:
    """Keeps a segment back until a run's UNet calls, counted from 0, have passed a number: the first one always.

    That number is the caller's `start_merge_step`, else (1 - alpha) * steps in doubles, unrounded, where the caller
    gives `alpha`, else the one here. Source: FastComposer's delayed subject conditioning (arXiv 2305.10431).
    """

    KEY: ClassVar[str] = "delay"
    OPTIONS: ClassVar[tuple[Option, ...]] = options_of(DelayOptions)

    start_merge_step: Index

    def last_call(
        self, steps: int, alpha: float | None = None, start_merge_step: int | None = None, share: float | None = None
    ) -> float:
        """The last call that the segment does not serve; `share` of the steps is a preset's, for who says neither."""
        if alpha is not None:
            # A float32 would be rounded on the way.
            return (1 - float(alpha)) * steps
        if start_merge_step is None and share is not None:
            return share * steps
        return self.start_merge_step if start_merge_step is None else start_merge_step

    def slots(self) -> tuple[str, ...]:
        return ()

    def describe(self) -> str:
        return f"subjects after UNet call {self.start_merge_step}"

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        alpha, start = call.values["alpha"], call.values["start_merge_step"]
        if alpha is not None and start is not None:
            made.problems.append("alpha (--delay): delays the subjects as start_merge_step does; give one of the two")
        if alpha is not None and not (is_number(alpha) and 0 <= alpha <= 1):
            made.problems.append(
                f"alpha (--delay): expected a share from 0 (never) to 1 (from the second call on), got {short(alpha)}"
            )
        elif start is not None and not (is_number(start) and isinstance(start, Integral) and start >= 0):
            made.problems.append(f"start_merge_step: expected a whole number >= 0, got {short(start)}")
        elif isinstance(call.steps, Integral):
            made.delay_until_call = self.last_call(int(call.steps), alpha, start, call.preset_delay)

    def stand_in(self) -> dict[str, Any]:
        return {}

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        return {}
