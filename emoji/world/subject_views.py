"""How a subject is shown to the vision tower: at some place and size, on some background or masked, as at run time."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..recipe.training import device
from .scenes import CANVAS, PICTURE, composite, fitted
from .subjects import SOLID
from .vocabulary import backgrounds

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""CLIP's normalisation."""
TOLD_SHARE = 0.15
"""How many of the named backgrounds a caption may tell: told often, they are all that is learnt."""
NAMED_SHARE = 0.6
"""How many of the views of an untold background have a named one."""


@dataclass(frozen=True, slots=True)
class View:
    """A picture's longer side and place on the canvas, its background, and whether the background is masked away.

    channels is the order of red, green and blue: swapped colours make more subjects of those there are.
    """

    size: int
    left: int
    top: int
    colour: tuple[int, int, int]
    named: str | None
    masked: bool
    flipped: bool
    channels: tuple[int, int, int]


def draw_view(rng: np.random.Generator, masked_share: float = 0.4) -> View:
    """Any place, size and background; `named` is the background's key where it has one and shows."""
    size = int(rng.integers(36, CANVAS + 1))
    left, top = (int(x) for x in rng.integers(0, CANVAS - size + 1, 2))
    ground = backgrounds()[rng.integers(len(backgrounds()))]
    masked, named = bool(rng.random() < masked_share), bool(rng.random() < 0.6)
    told = named and not masked and rng.random() < TOLD_SHARE
    other = tuple(int(x) for x in rng.integers(0, 256, 3))
    channels = tuple(int(x) for x in rng.permutation(3)) if rng.random() < 0.2 else (0, 1, 2)
    return View(
        size,
        left,
        top,
        ground.rgb if named else other,  # type: ignore[arg-type]
        ground.key if told else None,
        masked,
        bool(rng.random() < 0.5),
        channels,  # type: ignore[arg-type]
    )


def plain_view(
    rng: np.random.Generator, centred: bool, smallest: int, flipped: bool, channels: tuple[int, int, int]
) -> View:
    """A view that nothing is told of: in the middle as the target shows it, or at any place and size from `smallest`;
    on a named background or any other."""
    size, left, top = PICTURE, (CANVAS - PICTURE) // 2, (CANVAS - PICTURE) // 2
    if not centred:
        size = int(rng.integers(smallest, CANVAS + 1))
        left, top = (int(x) for x in rng.integers(0, CANVAS - size + 1, 2))
    red, green, blue = (int(x) for x in rng.integers(0, 256, 3))
    if rng.random() < NAMED_SHARE:
        red, green, blue = backgrounds()[rng.integers(len(backgrounds()))].rgb
    return View(size, left, top, (red, green, blue), None, False, flipped, channels)


def tile_of(picture: Image.Image, size: int, flipped: bool, channels: tuple[int, int, int]) -> np.ndarray:
    """The picture at its size, uint8 RGBA [size, size, 4]."""
    tile = fitted(picture, size)[..., [*channels, 3]]
    return tile[:, ::-1] if flipped else tile


def rendered(picture: Image.Image, view: View) -> np.ndarray:
    """The picture as `view` shows it, uint8 [64, 64, 3]: composited first, then masked to black."""
    tile = tile_of(picture, view.size, view.flipped, view.channels)
    image = composite(tile, np.asarray(view.colour), view.left, view.top)
    return image * solid(tile, view.left, view.top)[..., None] if view.masked else image


def solid(tile: np.ndarray, left: int, top: int) -> np.ndarray:
    """The mask of a tile on the canvas, uint8 0 or 1 [64, 64]."""
    mask = np.zeros((CANVAS, CANVAS), np.uint8)
    mask[top : top + tile.shape[0], left : left + tile.shape[1]] = tile[..., 3] >= SOLID
    return mask


def normalised(images: list[np.ndarray]) -> Tensor:
    """uint8 pictures as the vision tower's float input, [n, 3, 64, 64]. They already have its size."""
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().to(device()) / 255
    mean, std = (torch.tensor(x, device=device()).view(3, 1, 1) for x in (MEAN, STD))
    return ((batch - mean) / std).contiguous()
