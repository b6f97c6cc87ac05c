"""The class of a class-conditional bundle, such as one of ImageNet's, by its number."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypedDict

import numpy as np

from ..bundle.records import Count, Index
from .option import CallContext, CallShape, Option, PreparedInputs, Shape, is_index, options_of, short


class ClassOptions(TypedDict, total=False):
    """What is drawn, where the bundle knows classes."""

    class_id: Annotated[
        int | None,
        Option(
            "count",
            "Number of the class to draw, from 0, for a bundle of classes.",
            flag="--class",
            checked_by_input=True,
        ),
    ]


@dataclass(frozen=True, slots=True)
class ClassInput:
    """A class as the slot `class_id`, int64 [B]: 0 to `classes` - 1, and `null_id` on the unconditional side."""

    KEY: ClassVar[str] = "class"
    OPTIONS: ClassVar[tuple[Option, ...]] = options_of(ClassOptions)

    classes: Count
    null_id: Index

    def slots(self) -> tuple[str, ...]:
        return ("class_id",)

    def describe(self) -> str:
        return f"class, 0 to {self.classes - 1}"

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        given = call.values["class_id"]
        if not is_index(given, self.classes):
            got = "none; say what to draw" if given is None else short(given)
            made.problems.append(f"class_id: expected a whole number from 0 to {self.classes - 1}, got {got}")
            return
        made.slots["class_id"] = np.array([self.null_id, int(given)][-call.rows :], np.int64)

    def stand_in(self) -> dict[str, Any]:
        return {"class_id": 0}

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        return {"class_id": (call.rows,)}
