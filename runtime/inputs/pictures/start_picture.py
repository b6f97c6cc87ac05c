"""The picture that a walk through latents begins with: redrawn, or filled where a mask says so (Meng et al. 2021, arXiv
2108.01073; Lugmayr et al. 2022, arXiv 2201.09865), as diffusers' image-to-image and inpainting pipelines prepare it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypedDict

import numpy as np
from PIL import Image

from ...bundle.records import Few, Side
from ...errors import InputError
from ...media.pictures import PictureSource, open_pictures, stand_in_mask, stand_in_picture
from ...token_samplers.noise import stream_seeds
from ..option import CallContext, CallShape, Option, PreparedInputs, Shape, is_number, options_of, short
from .start import HALF, resized

STRENGTH, WHOLE_STRENGTH = 0.8, 1.0
"""Of a start alone and of one with a mask, where the caller names none: diffusers' own."""
ABSENT = "leave it out, or export the bundle again, of a Stable Diffusion base with the encoder of its VAE"
START_DRAW, FILLED_DRAW = "start", "filled"
"""The VAE's draws among recorded ones, and the streams of a seed that they come from."""


class StartPictureOptions(TypedDict, total=False):
    """Where a walk through latents begins."""

    start: Annotated[
        PictureSource | None,
        Option(
            "picture",
            "Picture to begin with: scaled to the size, or drawn at its own, brought to the next smaller multiples.",
            absent=ABSENT,
        ),
    ]
    start_strength: Annotated[
        float | None,
        Option(
            "number",
            "Share of the steps that redraw the start: 0.8, or 1 with a mask, if left out.",
            least=0,
            most=1,
            absent=ABSENT,
        ),
    ]
    inpaint: Annotated[
        PictureSource | None,
        Option(
            "picture", "Mask of the start's size: white is drawn anew, what is black stays as it is.", absent=ABSENT
        ),
    ]


@dataclass(frozen=True, slots=True)
class StartPicture:
    """How a picture becomes what a walk through latents begins with; it may be left out, unless the UNet `fills`.

    It fills `start_pixels`, float32 [count, 3 or `grey` 1, H, W] in -1..1, of which a graph of its conditioner makes
    `start_latents`; a VAE that `draws` takes `start_draw`, float32 [count, `channels`, h, w], too. A mask fills
    `drawn_anew`, float32 [count, 1, h, w], 1 where it is white. A UNet that `fills` reads that, and `filled_latents`,
    which a graph makes of `filled_pixels` (the picture, grey where the mask is white) and `filled_draw`; it needs both,
    and `start_pixels` only where the start is not redrawn whole. A latent has `factor` pixels a side, and every side of
    a picture is a multiple of `multiple`.

    The draws of picture k come from the streams "start" and "filled" of seed + k, beside that of the start noise.
    """

    KEY: ClassVar[str] = "start_picture"
    OPTIONS: ClassVar[tuple[Option, ...]] = options_of(StartPictureOptions)

    channels: Few
    factor: Few
    multiple: Side
    grey: bool = False
    draws: bool = True
    fills: bool = False

    def slots(self) -> tuple[str, ...]:
        names = ["start_pixels", *(["filled_pixels"] if self.fills else [])]
        drawn = [name.replace("pixels", "draw") for name in names] if self.draws else []
        return (*names, *drawn, "drawn_anew")

    def describe(self) -> str:
        return "start and inpaint" if self.fills else "start and inpaint, which may be left out"

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        start, mask = call.values["start"], call.values["inpaint"]
        strength = call.values["start_strength"]
        if problems := self._problems(start, mask, strength):
            raise InputError(*problems)
        if start is None:
            return
        opened = open_pictures([(start, "start"), *([] if mask is None else [(mask, "inpaint")])])
        made.notes += [note for picture in opened for note in picture.notes]
        picture = opened[0].image
        size = self._size(picture, call, made)
        share = start_share(call.values)
        made.start_strength = None if mask is not None and share == WHOLE_STRENGTH else share
        pixels = self._pixels(picture, size)
        if made.start_strength is not None or not self.fills:
            self._fill("start", pixels, size, call, made)
        if mask is None:
            return
        white = self._white(opened[1].image, picture.size, size)
        anew = white[:: self.factor, :: self.factor]
        if not anew.any():
            raise InputError(
                f"inpaint: expected white on at least one of the {anew.shape[0]}x{anew.shape[1]} latents, got none; "
                "paint white what is drawn anew"
            )
        made.slots["drawn_anew"] = np.repeat(anew[None, None].astype(np.float32), call.count, axis=0)
        if self.fills:
            self._fill("filled", pixels * ~white, size, call, made)

    def stand_in(self) -> dict[str, Any]:
        return {"start": stand_in_picture(), "inpaint": stand_in_mask()} if self.fills else {}

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        latents = call.size[0] // self.factor, call.size[1] // self.factor
        kinds: dict[str, Shape] = {
            "pixels": (call.count, 1 if self.grey else 3, *call.size),
            "draw": (call.count, self.channels, *latents),
            "anew": (call.count, 1, *latents),
        }
        return {slot: kinds[slot.rpartition("_")[2]] for slot in self.slots()}

    def _problems(self, start: Any, mask: Any, strength: Any) -> list[str]:
        if strength is not None and not is_number(strength):
            return [f"start_strength: expected a number from 0 to 1, got {short(strength)}; 0.8 redraws most of it"]
        if self.fills and (start is None or mask is None):
            lost = " and ".join(name for name, value in (("start", start), ("inpaint", mask)) if value is None)
            return [f"{lost}: expected a picture and its mask, which this bundle fills, got none; give {lost}"]
        if start is not None:
            return []
        return [
            f"{name}: expected a start to {what}, got none; give start, or leave {name} out"
            for name, value, what in (("inpaint", mask, "fill"), ("start_strength", strength, "redraw"))
            if value is not None
        ]

    def _size(self, picture: Image.Image, call: CallContext, made: PreparedInputs) -> tuple[int, int]:
        """(height, width) that a picture is brought to: the call's or recorded noise's, or its own."""
        if call.values["size"] is not None or call.values["noise"] is not None:
            size = call.size
        else:
            width, height = (side // self.multiple * self.multiple for side in picture.size)
            if 0 in (width, height):
                raise InputError(
                    f"start: expected at least {self.multiple} pixels a side, got {picture.height}x{picture.width}; "
                    "give a larger one, or size"
                )
            made.size = size = height, width
        if size[::-1] != picture.size:
            made.notes.append(
                f"start: scaled from {picture.height}x{picture.width} to {size[0]}x{size[1]} pixels (height x width)"
            )
        return size

    def _pixels(self, picture: Image.Image, size: tuple[int, int]) -> np.ndarray:
        """float32 [C, H, W] in -1..1."""
        scaled = resized(picture, size)
        levels = np.asarray(scaled.convert("L") if self.grey else scaled, np.float32) / np.float32(255)
        signed = 2 * levels - 1
        return signed[None] if self.grey else signed.transpose(2, 0, 1)

    def _white(self, mask: Image.Image, upright: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
        """bool [H, W] of a mask that has the (width, height) of its picture, which is brought to a size."""
        if mask.size != upright:
            raise InputError(
                f"inpaint: expected {upright[1]}x{upright[0]} pixels (height x width) like the start, got "
                f"{mask.height}x{mask.width}; paint it over the start, seen upright"
            )
        return np.asarray(resized(mask, size).convert("L")) >= HALF

    def _fill(
        self, kind: str, pixels: np.ndarray, size: tuple[int, int], call: CallContext, made: PreparedInputs
    ) -> None:
        """The slots of the encoder's call for one picture, a row for each that is drawn."""
        made.slots[f"{kind}_pixels"] = np.repeat(pixels[None].astype(np.float32), call.count, axis=0)
        if self.draws:
            shape = self.channels, size[0] // self.factor, size[1] // self.factor
            made.slots[f"{kind}_draw"] = _draw(kind, shape, call)


def start_share(values: Mapping[str, Any]) -> float:
    """The share of the steps that redraw the start of a run with these options."""
    given = values["start_strength"]
    usual = STRENGTH if values["inpaint"] is None else WHOLE_STRENGTH
    return usual if given is None else float(given)


def _draw(name: str, shape: tuple[int, int, int], call: CallContext) -> np.ndarray:
    """float32 [count, *shape], standard normal: recorded, or picture k's from the stream `name` of seed + k."""
    recorded = call.values["noise"]
    if isinstance(recorded, Mapping) and name in recorded:
        return np.asarray(recorded[name][0], np.float32)
    seeds = stream_seeds(name, call.values["seed"], call.count)
    return np.stack([np.random.Generator(np.random.PCG64(seed)).standard_normal(shape, np.float32) for seed in seeds])
