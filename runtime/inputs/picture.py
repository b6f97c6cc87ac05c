"""Pictures that a plan takes."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class PictureInput:
    """How the caller's picture becomes pixels, float32 [n, 3, size, size], normalised as CLIP's are.

    "subject" takes one picture and its mask, squashed to a square: slots `subject_pixels`, `object_pixels` (black
    outside the mask) and `mask` [1, grid * grid], one value for each of the encoder's patches. "image" takes one or
    more pictures, cropped to a square: slot `image_pixels`, [1, n, ...]. "subjects" takes one for each marked noun,
    padded to a square and brought to `resolution` first: slot `subjects_pixels`, [1, n, ...]. The kind is also the
    option's name.
    """

    kind: Literal["subject", "image", "subjects"]
    size: int
    grid: int = 0
    resolution: int = 0

    def slots(self) -> tuple[str, ...]:
        return ("subject_pixels", "object_pixels", "mask") if self.kind == "subject" else (f"{self.kind}_pixels",)

    def options(self) -> tuple[str, ...]:
        own = {"subject": ("mask", "soft_mask"), "image": (), "subjects": ("object_resolution",)}
        return (self.kind, *own[self.kind])
