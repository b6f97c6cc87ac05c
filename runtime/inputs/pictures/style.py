"""A picture whose CLIP embedding is part of the context: eDiff-I's reference of a style (arXiv 2211.01324)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypedDict

import numpy as np

from ...bundle.records import Few, Side
from ...media.clip_pixels import clip_pixels
from ...media.pictures import PictureSource, open_picture, stand_in_picture
from ..option import CallContext, CallShape, Option, PreparedInputs, Shape, options_of

STYLE_PIXELS, STYLE_EMBEDDING = "style_pixels", "style_embedding"


class StyleOptions(TypedDict, total=False):
    """What a bundle takes whose context has a picture's embedding."""

    style: Annotated[
        PictureSource | None,
        Option("picture", "Picture whose CLIP embedding stands beside the text; the part is zeros if left out."),
    ]


@dataclass(frozen=True, slots=True)
class StyleInput:
    """How a picture becomes the slot `style_pixels`, float32 [1, 3, size, size], as CLIP reads it. Where none is given,
    `style_embedding` are zeros, float32 [1, width]."""

    KEY: ClassVar[str] = "style"
    OPTIONS: ClassVar[tuple[Option, ...]] = options_of(StyleOptions)

    kind: Literal["style"] = field(default="style", init=False)
    size: Side
    width: Few

    def slots(self) -> tuple[str, ...]:
        return STYLE_PIXELS, STYLE_EMBEDDING

    def describe(self) -> str:
        return f"style, a picture of {self.size}x{self.size} pixels; may be left out"

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        given = call.values["style"]
        if given is None:
            made.slots[STYLE_EMBEDDING] = np.zeros((1, self.width), np.float32)
            return
        picture = open_picture(given, "style")
        made.slots[STYLE_PIXELS] = clip_pixels([picture.image], self.size)
        made.notes += picture.notes

    def stand_in(self) -> dict[str, Any]:
        return {"style": stand_in_picture()}

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        return {STYLE_PIXELS: (1, 3, self.size, self.size), STYLE_EMBEDDING: (1, self.width)}
