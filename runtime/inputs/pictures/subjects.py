"""Pictures of several subjects, as FastComposer reads them (arXiv 2305.10431; rules of its published loader)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypedDict

import numpy as np

from ...bundle.records import Side
from ...errors import InputError
from ...media.clip_pixels import MEAN, STD, antialiased
from ...media.pictures import MAX_PIXELS, Picture, PictureSource, open_pictures, several, stand_in_picture
from ..option import CallContext, CallShape, Option, PreparedInputs, Shape, options_of, short


class SubjectsOptions(TypedDict, total=False):
    """The subjects of the marked nouns."""

    subjects: Annotated[
        PictureSource | Sequence[PictureSource] | None,
        Option(
            "picture",
            "Pictures of subjects, one for each marked noun of the prompt, in their order.",
            several=True,
            flag="--subject",
        ),
    ]
    object_resolution: Annotated[
        int | None,
        Option("count", "Pixels that the subjects' pictures are scaled to first.", checked_by_input=True),
    ]


@dataclass(frozen=True, slots=True)
class SubjectsInput:
    """How the pictures of the marked nouns become the slot `subjects_pixels`, float32 [1, n, 3, size, size]: padded to
    a square, brought to `resolution` first, then to the encoder's size, normalised as CLIP's are.
    """

    KEY: ClassVar[str] = "picture"
    OPTIONS: ClassVar[tuple[Option, ...]] = options_of(SubjectsOptions)

    kind: Literal["subjects"] = field(default="subjects", init=False)
    size: Side
    resolution: Side

    def slots(self) -> tuple[str, ...]:
        return ("subjects_pixels",)

    def describe(self) -> str:
        return f"subjects, {self.size}x{self.size} pixels, scaled to {self.resolution}x{self.resolution} first"

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        sources = several(call.values["subjects"])
        if not sources:
            # No noun is marked, or the count is told; the encoder still wants a picture, which then stands nowhere.
            made.slots["subjects_pixels"] = np.zeros((1, 1, 3, self.size, self.size), np.float32)
            return
        given = call.values["object_resolution"]
        pixels, notes = reference_pixels(sources, self.resolution if given is None else given, self.size)
        made.slots["subjects_pixels"] = pixels[None]
        made.notes += notes

    def stand_in(self) -> dict[str, Any]:
        return {"subjects": [stand_in_picture()]}

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        return {"subjects_pixels": (1, call.pictures, 3, self.size, self.size)}


RESOLUTIONS = range(16, 2049)
"""What a subject's picture may be reduced to first: below it shows nothing, above it only costs."""


def reference_pixels(
    sources: Sequence[PictureSource], resolution: int, size: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    """float32 [n, 3, size, size] in CLIP's units, whole pictures on black squares; and warnings, one line each.

    A picture is scaled to `resolution` in whole levels, then to `size` in fractions of levels: the way matters, as the
    authors' default of 256 for an encoder of 224 does. Turned upright by its EXIF tag, which the authors leave aside.
    Raises InputError, a line for each picture at fault and for the resolution.
    """
    problems = resolution_problems(resolution)
    pictures: list[Picture] = []
    try:
        pictures = open_pictures((source, f"subject {number}") for number, source in enumerate(sources, 1))
    except InputError as error:
        problems += error.problems
    if not sources:
        problems.append("subjects: expected at least one picture, got none; give one for each marker")
    problems += [line for number, picture in enumerate(pictures, 1) for line in _shape_problems(picture, number)]
    if problems:
        raise InputError(*problems)
    notes = [note for picture in pictures for note in picture.notes]
    notes += [_turned_note(number) for number, picture in enumerate(pictures, 1) if picture.turned]
    levels = np.stack([levels_of(np.asarray(picture.image), int(resolution)) for picture in pictures])
    return encoder_pixels(levels, size), tuple(notes)


def resolution_problems(resolution: object) -> list[str]:
    """One line for what is no whole number of pixels in RESOLUTIONS."""
    if isinstance(resolution, int | np.integer) and not isinstance(resolution, bool) and resolution in RESOLUTIONS:
        return []
    low, high = RESOLUTIONS[0], RESOLUTIONS[-1]
    return [f"object_resolution: expected a whole number of pixels from {low} to {high}, got {short(resolution)}"]


def levels_of(pixels: np.ndarray, resolution: int) -> np.ndarray:
    """uint8 [H, W, 3] to uint8 [3, resolution, resolution]: centred on black, then scaled.

    Both margins lose their fraction, so that an odd difference of the sides leaves the square one pixel short.
    """
    planes = squared(pixels).transpose(2, 0, 1)
    if planes.shape[1:] == (resolution, resolution):
        return np.ascontiguousarray(planes)
    return np.rint(antialiased(planes, resolution, resolution)).astype(np.uint8)


def squared(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] with black margins, the content in the middle."""
    height, width = pixels.shape[:2]
    margin = abs(height - width) // 2
    down, across = (margin, 0) if height < width else (0, margin)
    return np.pad(pixels, ((down, down), (across, across), (0, 0)))


def encoder_pixels(levels: np.ndarray, size: int) -> np.ndarray:
    """uint8 [..., 3, H, W] to float32 [..., 3, size, size] in CLIP's units; the sides' ratio is not kept."""
    shares = levels.astype(np.float32) / np.float32(255)
    if shares.shape[-2:] != (size, size):
        shares = antialiased(shares, size, size)
    return (shares - MEAN[:, None, None]) / STD[:, None, None]


def _shape_problems(picture: Picture, number: int) -> list[str]:
    """A sliver's square could fill the memory."""
    longest = max(picture.image.size)
    if longest**2 <= MAX_PIXELS:
        return []
    width, height = picture.image.size
    return [
        f"subject {number}: expected a square around it of at most {MAX_PIXELS // 10**6} million pixels, got sides of "
        f"{width}x{height}; cut out the subject"
    ]


def _turned_note(number: int) -> str:
    return (
        f"subject {number}: turned upright by its EXIF tag, which the system's authors do not do; "
        "save it without the tag to have it as stored"
    )
