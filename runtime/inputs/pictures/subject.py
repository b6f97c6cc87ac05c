"""A subject's picture and mask, as ELITE's encoder reads them (arXiv 2302.13848; rules of its published loader)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypedDict

import numpy as np
from PIL import Image

from ...bundle.records import Side
from ...errors import InputError
from ...media.clip_pixels import squashed
from ...media.pictures import PictureSource, open_pictures, stand_in_mask, stand_in_picture
from ..option import CallContext, CallShape, NamedTensors, Option, PreparedInputs, Shape, options_of
from .options import MaskOptions


class SubjectOptions(TypedDict, total=False):
    """One subject, and how its mask is read."""

    subject: Annotated[PictureSource | None, Option("picture", "Picture of the subject.")]
    soft_mask: Annotated[
        bool, Option("flag", "Weight by the mask's greys instead of cutting at its edge.", default=False)
    ]


@dataclass(frozen=True, slots=True)
class SubjectInput:
    """How one picture and its mask become the slots `subject_pixels` and `object_pixels` (black outside the mask),
    float32 [1, 3, size, size], squashed to a square and normalised as CLIP's are, and `mask`, float32 [1, grid * grid],
    one value for each of the encoder's patches.
    """

    KEY: ClassVar[str] = "picture"
    OPTIONS: ClassVar[tuple[Option, ...]] = (*options_of(SubjectOptions), *options_of(MaskOptions))

    kind: Literal["subject"] = field(default="subject", init=False)
    size: Side
    grid: Side

    def slots(self) -> tuple[str, ...]:
        return ("subject_pixels", "object_pixels", "mask")

    def describe(self) -> str:
        return f"subject, {self.size}x{self.size} pixels, {self.grid}x{self.grid} patches"

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        subject, mask, soft_mask = (call.values[name] for name in ("subject", "mask", "soft_mask"))
        if subject is None:
            raise InputError("subject: expected a picture, which this bundle draws from, got none; give subject")
        if soft_mask and mask is None:
            made.problems.append("soft_mask: expected a mask, whose greys are the weights, got none; give mask")
        found = subject_inputs(subject, mask, self.size, self.grid, soft_mask)
        made.slots |= found.slots
        made.notes += found.notes

    def stand_in(self) -> dict[str, Any]:
        return {"subject": stand_in_picture(), "mask": stand_in_mask()}

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        pixels = (1, 3, self.size, self.size)
        return {"subject_pixels": pixels, "object_pixels": pixels, "mask": (1, self.grid * self.grid)}


SEGMENT = 128
"""Side of the picture the mask is sampled to first, whatever the encoder's patches."""
NO_MASK = "mask: none given, so the whole picture is the subject; a mask keeps its background out of the drawing"


@dataclass(frozen=True, slots=True)
class Subject:
    """`slots` are the encoder's arrays, `notes` warnings, one line each."""

    slots: NamedTensors
    notes: tuple[str, ...]


def subject_inputs(
    subject: PictureSource, mask: PictureSource | None, size: int, grid: int, soft_mask: bool = False
) -> Subject:
    """The slots `subject_pixels` and `object_pixels`, float32 [1, 3, size, size], and `mask`, float32 [1, grid * grid].

    Every channel of the mask above 0 keeps that channel of the object's picture; a patch belongs to the subject where
    the first channel does, at one sampled pixel. `soft_mask` weights the picture by the mask's greys instead, and a
    patch then counts only where the mask is fully white. Grey masks are three equal channels. Without a mask everything
    is the subject. Raises InputError, a line for each picture at fault.
    """
    picture, *cuts = open_pictures([(subject, "subject")] + ([] if mask is None else [(mask, "mask")]))
    cut = cuts[0] if cuts else None
    pixels = np.asarray(picture.image)
    notes = [*picture.notes, *(cut.notes if cut is not None else (NO_MASK,))]
    if cut is None:
        levels = np.full_like(pixels, 255)
    else:
        levels = np.asarray(cut.image)
        _check_mask(levels, pixels)
        if not soft_mask:
            notes += _dark_notes(levels)
    patches = to_grid(segmented(levels, soft_mask)[..., 0], grid)
    if not patches.any():
        raise InputError(_no_patch(levels, grid, soft_mask))
    masked = Image.fromarray(_masked(pixels, levels, soft_mask))
    slots = {
        "subject_pixels": squashed(picture.image, size)[None],
        "object_pixels": squashed(masked, size)[None],
        "mask": patches.reshape(1, -1),
    }
    return Subject(slots, tuple(notes))


def segmented(levels: np.ndarray, soft_mask: bool = False) -> np.ndarray:
    """A mask, uint8 [H, W, 3], to 0 and 1, float32 [SEGMENT, SEGMENT, 3], at the nearest pixel up and left."""
    rows, columns = (_nearest(side, SEGMENT) for side in levels.shape[:2])
    sampled = levels[np.ix_(rows, columns)]
    return (sampled == 255 if soft_mask else sampled > 0).astype(np.float32)


def to_grid(segment: np.ndarray, grid: int) -> np.ndarray:
    """[SEGMENT, SEGMENT] to [grid, grid], again at the nearest pixel up and left."""
    places = _nearest(SEGMENT, grid)
    return segment[np.ix_(places, places)]


def _nearest(length: int, wanted: int) -> np.ndarray:
    """In float32, as torch's interpolation computes it: a fraction just below a whole number may round up to it."""
    places = np.arange(wanted, dtype=np.float32) * (np.float32(length) / np.float32(wanted))
    return np.minimum(places.astype(np.int64), length - 1)


def _masked(pixels: np.ndarray, levels: np.ndarray, soft_mask: bool) -> np.ndarray:
    if soft_mask:
        return (pixels * (levels / 255.0)).astype(np.uint8)
    return pixels * (levels > 0)


def _check_mask(levels: np.ndarray, pixels: np.ndarray) -> None:
    height, width = pixels.shape[:2]
    if levels.shape != pixels.shape:
        raise InputError(
            f"mask: expected {width}x{height} pixels like the subject, got {levels.shape[1]}x{levels.shape[0]}; "
            "draw it over the subject's picture, seen upright"
        )
    if not levels.any():
        raise InputError("mask: expected white where the subject is, got a black picture; paint the subject white")
    # A black and white silhouette may be its own mask.
    if np.array_equal(levels, pixels) and not np.isin(levels, (0, 255)).all():
        raise InputError("mask: expected white on black, got the subject's own picture; give its mask, or leave it out")


def _dark_notes(levels: np.ndarray) -> list[str]:
    share = float(((levels > 0) & (levels < 32)).mean())
    if share < 0.02:
        return []
    return [f"mask: {share:.0%} of it is nearly black, which counts as subject; save it as PNG, 0 where nothing is"]


def _no_patch(levels: np.ndarray, grid: int, soft_mask: bool) -> str:
    first = "its red channel " if (levels[..., 0] != levels.max(2)).any() else "it "
    white = "fully white " if soft_mask else "white "
    return (
        f"mask: expected {white}on at least one of the {grid}x{grid} places where it is looked at, got none: "
        f"{first}is too thin or too small there; paint a larger area"
    )
