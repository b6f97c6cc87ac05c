"""The steps and the guidance of the stages before and behind the one that a call's own options speak of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypedDict

from .option import CallContext, CallShape, Option, PreparedInputs, Shape, options_of
from .sampling import MOST_STEPS


class PriorOptions(TypedDict, total=False):
    """How a prior is sampled, which imagines the picture's embedding."""

    prior_steps: Annotated[int | None, Option("count", "Steps of the prior.", least=2, most=MOST_STEPS)]
    prior_guidance: Annotated[float | None, Option("number", "Guidance scale of the prior; 1 switches it off.")]


class SuperResolutionOptions(TypedDict, total=False):
    """How the picture is enlarged."""

    super_resolution_steps: Annotated[
        int | None, Option("count", "Steps of the super resolution.", least=2, most=MOST_STEPS)
    ]


@dataclass(frozen=True, slots=True)
class _Stage:
    """Options alone: the process reads them."""

    def slots(self) -> tuple[str, ...]:
        return ()

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        """Nothing: the process looks its numbers up."""

    def stand_in(self) -> dict[str, Any]:
        return {}

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        return {}


@dataclass(frozen=True, slots=True)
class PriorStage(_Stage):
    """The options of a process that comes before the call's own."""

    KEY: ClassVar[str] = "prior"
    OPTIONS: ClassVar[tuple[Option, ...]] = options_of(PriorOptions)

    kind: Literal["prior"] = field(default="prior", init=False)

    def describe(self) -> str:
        return "prior_steps, prior_guidance"


@dataclass(frozen=True, slots=True)
class SuperResolutionStage(_Stage):
    """The option of a process that comes behind the call's own."""

    KEY: ClassVar[str] = "super_resolution"
    OPTIONS: ClassVar[tuple[Option, ...]] = options_of(SuperResolutionOptions)

    kind: Literal["super_resolution"] = field(default="super_resolution", init=False)

    def describe(self) -> str:
        return "super_resolution_steps"


Stage = PriorStage | SuperResolutionStage


def stage_value(stage: Stage | None, values: Mapping[str, Any], what: Literal["steps", "guidance"]) -> Any:
    """What the caller says of a stage's steps or guidance, None where nothing."""
    return None if stage is None else values.get(f"{stage.kind}_{what}")
