"""Pictures for a CLIP: references beside a prompt (IP-Adapter, arXiv 2308.06721), or the one to describe (DDCap, arXiv
2211.11694)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from ...bundle.records import Side
from ...errors import InputError
from ...media.clip_pixels import clip_pixels, openai_clip_pixels
from ...media.pictures import open_picture, open_pictures, several, stand_in_picture
from ..option import CallContext, CallShape, Option, PreparedInputs, Shape, options_of
from .options import ImageOptions


@dataclass(frozen=True, slots=True)
class ImageInput:
    """How one or more pictures become the slot `image_pixels`, float32 [1, n, 3, size, size]: the shorter edge brought
    to `size`, the middle square kept, normalised as CLIP's are.
    """

    KEY: ClassVar[str] = "picture"
    OPTIONS: ClassVar[tuple[Option, ...]] = options_of(ImageOptions)

    kind: Literal["image"] = field(default="image", init=False)
    size: Side

    def slots(self) -> tuple[str, ...]:
        return ("image_pixels",)

    def describe(self) -> str:
        return f"image, {self.size}x{self.size} pixels"

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        sources = several(call.values["image"])
        if not sources:
            raise InputError("image: expected a picture, which this bundle draws from, got none; give image")
        pictures = open_pictures((source, "image") for source in sources)
        made.slots["image_pixels"] = clip_pixels([picture.image for picture in pictures], self.size)[None]
        made.notes += [note for picture in pictures for note in picture.notes]

    def stand_in(self) -> dict[str, Any]:
        return {"image": stand_in_picture()}

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        return {"image_pixels": (1, call.pictures, 3, self.size, self.size)}


@dataclass(frozen=True, slots=True)
class SeenImageInput:
    """How the picture to describe becomes the slot `image_pixels`, float32 [1, 3, size, size], as OpenAI's CLIP has it:
    scaled in its own mode, the middle square kept, converted to RGB and normalised.
    """

    KEY: ClassVar[str] = "picture"
    OPTIONS: ClassVar[tuple[Option, ...]] = options_of(ImageOptions)

    kind: Literal["seen_image"] = field(default="seen_image", init=False)
    size: Side

    def slots(self) -> tuple[str, ...]:
        return ("image_pixels",)

    def describe(self) -> str:
        return f"image to describe, {self.size}x{self.size} pixels"

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        sources = several(call.values["image"])
        if len(sources) != 1:
            raise InputError(f"image: expected one picture, which is described, got {len(sources) or 'none'}; give one")
        picture = open_picture(sources[0], "image", as_stored=True)
        made.slots["image_pixels"] = openai_clip_pixels(picture.image, self.size)[None]
        made.notes += picture.notes

    def stand_in(self) -> dict[str, Any]:
        return {"image": stand_in_picture()}

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        return {"image_pixels": (1, 3, self.size, self.size)}
