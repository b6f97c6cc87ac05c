"""What a picture is said to be like besides its prompt: its size, its crop, its looks (SDXL, arXiv 2307.01952)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypedDict

import numpy as np

from ..bundle.records import Finite
from .option import CallContext, CallShape, Option, PreparedInputs, Shape, options_of
from .sampling import MOST_PIXELS


class MicroOptions(TypedDict, total=False):
    """What a picture is said to be like."""

    crop: Annotated[
        Sequence[int] | None,
        Option(
            "count",
            "Edge of the crop that the picture is said to be, in pixels; given twice, in the order of the model's own "
            "pipeline.",
            least=0,
            most=MOST_PIXELS,
            several=True,
        ),
    ]
    aesthetic: Annotated[
        float | None,
        Option("number", "Score of its looks that the picture is said to have.", least=-1e30, most=1e30),
    ]


@dataclass(frozen=True, slots=True)
class MicroConditions:
    """The slot `micro`, float32 [1, 5]: the picture's width and height in pixels, both edges of the crop, the score of
    its looks. Width is first, as aMUSEd (arXiv 2401.01808) has it; `aesthetic` is the usual score.
    """

    KEY: ClassVar[str] = "micro"
    OPTIONS: ClassVar[tuple[Option, ...]] = options_of(MicroOptions)

    aesthetic: Finite = 6.0

    def slots(self) -> tuple[str, ...]:
        return ("micro",)

    def describe(self) -> str:
        return f"width, height, crop (0, 0), looks ({self.aesthetic:g})"

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        crop, score = call.values["crop"], call.values["aesthetic"]
        edges = list(crop) if isinstance(crop, list | tuple) else [0, 0] if crop is None else [crop]
        if len(edges) != 2:
            made.problems.append(f"crop: expected both edges of it, got {len(edges)} of them; give two numbers")
            return
        height, width = made.size or call.size
        conditions = [width, height, *edges, self.aesthetic if score is None else score]
        made.slots["micro"] = np.asarray([conditions], np.float32)

    def stand_in(self) -> dict[str, Any]:
        return {}

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        return {"micro": (1, 5)}
