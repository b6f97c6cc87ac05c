"""A picture in the place of a prompt: unCLIP's variations (Ramesh et al. 2022, arXiv 2204.06125)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypedDict

import numpy as np

from ...bundle.records import Few, Side
from ...errors import InputError
from ...media.clip_pixels import clip_pixels
from ...media.pictures import open_picture, several, stand_in_picture
from ..option import CallContext, CallShape, Option, PreparedInputs, Shape, options_of, short
from .options import ImageOptions


class VariationOptions(TypedDict, total=False):
    """What may stand for a picture."""

    image_embedding: Annotated[
        np.ndarray | None,
        Option(
            "array",
            "CLIP's embedding of a picture instead of the picture: .npy, float32 [1 or count, width].",
            stored=False,
        ),
    ]


@dataclass(frozen=True, slots=True)
class VariationInput:
    """How a picture to vary becomes the slot `image_pixels`, float32 [1, 3, size, size], as CLIP reads it, or its
    embedding of `width` numbers the slot `image_embedding`, float32 [1 or count, width]. One of them, or where
    `prompts` are drawn a prompt.
    """

    KEY: ClassVar[str] = "variation"
    OPTIONS: ClassVar[tuple[Option, ...]] = (*options_of(ImageOptions), *options_of(VariationOptions))

    kind: Literal["variation"] = field(default="variation", init=False)
    size: Side
    width: Few
    prompts: bool = True

    def slots(self) -> tuple[str, ...]:
        return ("image_pixels",)

    def describe(self) -> str:
        return f"image to vary, {self.size}x{self.size} pixels, instead of a prompt"

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        pictures, embedding = several(call.values["image"]), call.values["image_embedding"]
        given = len(pictures) + (embedding is not None) + (call.prompt is not None)
        if given != 1 or (call.prompt is not None and not self.prompts):
            got = ("none", "a prompt")[given] if given < 2 else "several"
            expected = "a prompt, or one image, or its embedding" if self.prompts else "one image, or its embedding"
            raise InputError(f"image: expected {expected}, got {got}; give one")
        if embedding is not None:
            made.slots["image_embedding"] = self._checked(embedding, call.count)
        elif pictures:
            picture = open_picture(pictures[0], "image")
            made.slots["image_pixels"] = clip_pixels([picture.image], self.size)
            made.notes += picture.notes

    def stand_in(self) -> dict[str, Any]:
        return {} if self.prompts else {"image": stand_in_picture()}

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        return {"image_pixels": (1, 3, self.size, self.size)}

    def _checked(self, given: Any, count: int) -> np.ndarray:
        expected = f"image_embedding: expected float32 [1 or {count}, {self.width}]"
        if not isinstance(given, np.ndarray) or given.dtype.kind != "f":
            raise InputError(f"{expected}, got {short(given)}; give what the bundle's image encoder made")
        rows = given.reshape(1, -1) if given.ndim == 1 else given
        if rows.ndim != 2 or rows.shape[1] != self.width or len(rows) not in (1, count):
            raise InputError(f"{expected}, got {list(given.shape)}; give what the bundle's image encoder made")
        if not np.isfinite(rows).all():
            raise InputError(f"{expected} of finite numbers, got NaN or infinite ones; encode the picture again")
        return np.ascontiguousarray(rows, np.float32)
