"""A layout in the place of a prompt: boxes with categories (Frido, arXiv 2208.13753)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypedDict

import numpy as np

from ...bundle.records import Count, Window
from ...errors import InputError
from ..option import CallContext, CallShape, Option, PreparedInputs, Shape, options_of
from .given import given_layout
from .rules import LayoutRules

LAYOUT_TOKENS = "layout_tokens"
STAND_IN = ((0.1, 0.2, 0.5, 0.6), (0.55, 0.4, 0.4, 0.55), (0.0, 0.7, 1.0, 0.3))
"""Boxes where only shapes and times count."""


class LayoutOptions(TypedDict, total=False):
    """What is drawn where."""

    layout: Annotated[
        Mapping[str, Any] | str | None,
        Option(
            "table",
            "JSON with what is drawn where: {'objects': [{'category_no': 17, 'bbox_xywh': [0.1, 0.2, 0.5, 0.6]}]}, "
            "boxes as shares of the picture, and a crop or a flip beside them.",
            checked_by_input=True,
        ),
    ]


@dataclass(frozen=True, slots=True)
class LayoutInput:
    """How a layout becomes the slot `layout_tokens`, int64 [1, length], by the rules of the bundle, of which the layout
    may name others. The encoder knows `vocabulary` tokens at `positions`."""

    KEY: ClassVar[str] = "layout"
    OPTIONS: ClassVar[tuple[Option, ...]] = options_of(LayoutOptions)

    rules: LayoutRules
    vocabulary: Count
    positions: Window

    def slots(self) -> tuple[str, ...]:
        return (LAYOUT_TOKENS,)

    def describe(self) -> str:
        rules = self.rules
        crop = ", with its crop" if rules.encode_crop else ""
        return f"layout, up to {rules.objects} objects of {rules.classes} categories on {rules.places} places{crop}"

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        given = call.values["layout"]
        if given is None:
            raise InputError("layout: expected what is drawn where, got none; give a layout (--layout boxes.json)")
        layout, rules = given_layout(given, self.rules, made.notes)
        if problems := list(rules.problems(self.vocabulary, self.positions)):
            raise InputError(*(f"layout: builder: {problem}" for problem in problems))
        made.slots[LAYOUT_TOKENS] = np.array([layout.tokens(rules)], np.int64)

    def stand_in(self) -> dict[str, Any]:
        """Things side by side; as text, as files hold it."""
        rules = self.rules
        objects = [
            {"category_no": number % rules.classes, "bbox_xywh": list(box)}
            for number, box in enumerate(STAND_IN[: rules.objects])
        ]
        return {"layout": json.dumps({"objects": objects})}

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        return {LAYOUT_TOKENS: (1, self.rules.length)}
