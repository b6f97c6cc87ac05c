"""What a walk through tokens begins with: a picture or its tokens, redrawn, or completed where a mask says so."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, TypedDict

import numpy as np
from PIL import Image

from ...bundle.records import Count, Few, Index, Side
from ...errors import InputError
from ...media.pictures import MAX_PIXELS, open_pictures, several, stand_in_picture
from ...token_samplers.noise import TokenNoise
from ..option import (
    CallContext,
    CallShape,
    Option,
    PreparedInputs,
    Shape,
    is_number,
    is_same_size,
    options_of,
    short,
)
from .options import ImageOptions, MaskOptions, StrengthOptions

Taken = Literal["image", "mask", "strength", "tokens"]
HALF = 128
"""The level of 255 from which on a mask is white."""
MASK_WITHOUT_START = "mask: expected a picture to complete, got none; give image, or leave the mask out"


class StartOptions(TypedDict, total=False):
    """Where a walk through tokens begins."""

    tokens: Annotated[
        np.ndarray | None,
        Option(
            "array",
            "Tokens to begin with, instead of a picture's: .npy, whole numbers, [height, width] or [count, ...].",
            stored=False,
        ),
    ]


@dataclass(frozen=True, slots=True)
class StartInput:
    """How a walk through tokens of `classes` classes begins, of whichever options the system `takes`.

    A picture fills the slot `start_pixels`, float32 [1, 3, H, W], from 0 to 1, or `signed` from -1 to 1; a graph of its
    conditioner makes `start_tokens` of it. Tokens fill `start_tokens`, int64 [1 or count, N], themselves; one that is
    not there yet is `mask_id`. A mask fills `known`, bool [1, N]: what is not white stays. A token has `factor` pixels
    a side, and every side of a picture is a multiple of `multiple`: a picture is brought to the next smaller ones
    (Lanczos), or to a `fixed` size. `strength` is the sampler's to read. With `required` there must be a start.

    A codec that draws among its `codes` takes the slot `code_noise`, float32 [1, N, codes]: the exponential draws
    `code`.
    """

    KEY: ClassVar[str] = "start"
    OPTIONS: ClassVar[tuple[Option, ...]] = (
        *options_of(ImageOptions),
        *options_of(MaskOptions),
        *options_of(StrengthOptions),
        *options_of(StartOptions),
    )

    classes: Count
    factor: Few
    multiple: Side
    takes: tuple[Taken, ...]
    mask_id: Index | None = None
    signed: bool = False
    fixed: tuple[Side, Side] | None = None
    required: bool = False
    codes: Count | None = None

    def slots(self) -> tuple[str, ...]:
        own = {"image": "start_pixels", "tokens": "start_tokens", "mask": "known"}
        return (*(slot for taken, slot in own.items() if taken in self.takes), *(("code_noise",) if self.codes else ()))

    def describe(self) -> str:
        return f"start: {', '.join(self.takes)}{'' if self.required else ', which may be left out'}"

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        given = {name: call.values[name] for name in ("image", "mask", "strength", "tokens")}
        lost = [name for name, value in given.items() if value is not None and name not in self.takes]
        if lost:
            raise InputError(*(f"{name}: this bundle takes none; leave it out" for name in lost))
        pictures = several(given["image"])
        if len(pictures) + (given["tokens"] is not None) > 1:
            raise InputError("image: expected one picture, or tokens, to begin with, got several; leave the others out")
        if given["strength"] is not None and not (is_number(given["strength"]) and 0 < given["strength"] <= 1):
            made.problems.append(
                f"strength: expected a number above 0, up to 1, got {short(given['strength'])}; 0.5 redraws half-way"
            )
        if not pictures and given["tokens"] is None:
            made.problems += self._without_start(given)
        elif pictures:
            self._picture(pictures[0], given["mask"], call, made)
        else:
            self._tokens(given["tokens"], given["mask"], call, made)

    def stand_in(self) -> dict[str, Any]:
        return {"image": stand_in_picture()} if self.required else {}

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        height, width = call.size if self.fixed is None else self.fixed
        length = (height // self.factor) * (width // self.factor)
        all_slots = {"start_pixels": (1, 3, height, width), "start_tokens": (1, length), "known": (1, length)}
        all_slots["code_noise"] = (1, length, self.codes or 1)
        return {slot: all_slots[slot] for slot in self.slots()}

    def _without_start(self, given: Mapping[str, Any]) -> list[str]:
        if self.required:
            return [f"{self.takes[0]}: expected one, which this bundle draws from, got none; give {self.takes[0]}"]
        found = [MASK_WITHOUT_START] if given["mask"] is not None else []
        if given["strength"] is not None:
            found.append("strength: expected a picture to redraw, got none; give image, or leave strength out")
        return found

    def _picture(self, image: Any, mask: Any, call: CallContext, made: PreparedInputs) -> None:
        opened = open_pictures([(image, "image"), *([] if mask is None else [(mask, "mask")])])
        made.notes += [note for picture in opened for note in picture.notes]
        picture = opened[0].image
        size = self._size(picture)
        if not self._agrees(size, call, made):
            return
        levels = np.asarray(resized(picture, size), np.float32) / np.float32(255)
        levels = levels * 2 - 1 if self.signed else levels
        made.slots["start_pixels"] = np.ascontiguousarray(levels.transpose(2, 0, 1)[None])
        if self.codes is not None:
            recorded = call.values["noise"]
            noise = TokenNoise(call.values["seed"], 1, recorded if isinstance(recorded, Mapping) else None)
            length = (size[0] // self.factor) * (size[1] // self.factor)
            made.slots["code_noise"] = noise.exponential("code", (length, self.codes))
        if mask is not None:
            made.slots["known"] = self._known(opened[1].image, picture.size, size)

    def _tokens(self, given: Any, mask: Any, call: CallContext, made: PreparedInputs) -> None:
        tokens = self._checked(given, call)
        size = tokens.shape[1] * self.factor, tokens.shape[2] * self.factor
        if not self._agrees(size, call, made):
            return
        made.slots["start_tokens"] = tokens.reshape(len(tokens), -1)
        if mask is not None:
            (opened,) = open_pictures([(mask, "mask")])
            made.notes += opened.notes
            made.slots["known"] = self._known(opened.image, size[::-1], size)

    def _size(self, picture: Image.Image) -> tuple[int, int]:
        """(height, width) that a picture is brought to."""
        if self.fixed is not None:
            return self.fixed
        width, height = (side // self.multiple * self.multiple for side in picture.size)
        if 0 in (width, height):
            raise InputError(
                f"image: expected at least {self.multiple} pixels a side, got {picture.width}x{picture.height}; give a "
                "larger one"
            )
        return height, width

    def _agrees(self, size: tuple[int, int], call: CallContext, made: PreparedInputs) -> bool:
        """Notes the size of what is begun with, which the caller's must be, where one is given."""
        wanted = call.values["size"]
        made.size = size
        if wanted is None or is_same_size(wanted, size):
            return True
        got = f"got {short(wanted)}"
        made.problems.append(f"size: what is begun with is drawn at {size[0]}x{size[1]}, {got}; leave size out")
        return False

    def _checked(self, given: Any, call: CallContext) -> np.ndarray:
        """int64 [1 or count, h, w]."""
        expected = "tokens: expected whole numbers [height, width], or with the count in front"
        if not isinstance(given, np.ndarray) or given.dtype.kind not in "iu" or given.ndim not in (2, 3):
            got = f"{given.dtype} {list(given.shape)}" if isinstance(given, np.ndarray) else short(given)
            raise InputError(f"{expected}, got {got}; give an array of ids")
        if not 0 < given.size * self.factor**2 <= MAX_PIXELS:
            raise InputError(f"{expected}, of at most {MAX_PIXELS} pixels, got {list(given.shape)}; give a smaller one")
        tokens = given.astype(np.int64).reshape(-1, *given.shape[-2:])
        if len(tokens) not in (1, call.count):
            raise InputError(f"tokens: expected one start, or {call.count}, got {len(tokens)}; give count as many")
        wrong = tokens[(tokens < 0) | (tokens >= self.classes)]
        if self.mask_id is not None:
            wrong = wrong[wrong != self.mask_id]
        if wrong.size:
            also = "" if self.mask_id is None else f", or {self.mask_id} where nothing is"
            raise InputError(f"tokens: expected ids from 0 to {self.classes - 1}{also}, got {wrong[0]}; correct them")
        return tokens

    def _known(self, mask: Image.Image, upright: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
        """bool [1, N] of a mask that has the (width, height) of its picture, which is brought to a size."""
        if mask.size != upright:
            raise InputError(
                f"mask: expected {upright[0]}x{upright[1]} pixels like the picture, got {mask.width}x{mask.height}; "
                "paint it over the picture, seen upright"
            )
        grid = size[0] // self.factor, size[1] // self.factor
        known = np.asarray(resized(mask, grid).convert("L")) < HALF
        if known.all():
            raise InputError(
                f"mask: expected white on at least one of the {grid[0]}x{grid[1]} tokens, got none; paint white what "
                "is drawn anew"
            )
        return known.reshape(1, -1)


def resized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """An RGB picture at a size (height, width), by Lanczos, as diffusers' processor has it.

    Which side Pillow begins with, and so how it rounds, differs between its versions; the original has the installed
    one's, too.
    """
    return picture.resize(size[::-1], Image.Resampling.LANCZOS)
