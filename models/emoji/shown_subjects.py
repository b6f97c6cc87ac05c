"""The subjects of ELITE's batches: what the encoder is shown of one, and the caption that it is drawn from."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from . import clip, english, vocabulary
from .scenes import CANVAS, PICTURE, wide_pictures
from .subject_latents import EDGE, VARIANTS, characters
from .subject_views import View, rendered, solid, tile_of
from .training import device

PLACEHOLDER = "S"


@dataclass(frozen=True, slots=True)
class Shown:
    """One subject of a batch: what the encoder sees of it, and where its target lies in `subject_latents`."""

    picture: np.ndarray
    masked: np.ndarray
    grid: np.ndarray
    target: tuple[int, int, int]
    caption: str


def draw_subject(rng: np.random.Generator, aligned_share: float, smallest: int) -> Shown:
    """A random subject as a random view shows it, to be drawn in the middle of another background."""
    subject, variant = int(rng.integers(len(characters()))), int(rng.integers(len(VARIANTS)))
    ground = int(rng.integers(len(vocabulary.backgrounds())))
    picture, masked, grid = show(characters()[subject], variant, draw_view(rng, variant, aligned_share, smallest))
    return Shown(picture, masked, grid, (subject, variant, ground), draw_caption(rng, ground))


def draw_view(rng: np.random.Generator, variant: int, aligned_share: float, smallest: int) -> View:
    """As the target has it, or at another place and size; on any colour."""
    size, left, top = PICTURE, EDGE, EDGE
    if rng.random() >= aligned_share:
        size = int(rng.integers(smallest, CANVAS + 1))
        left, top = (int(x) for x in rng.integers(0, CANVAS - size + 1, 2))
    red, green, blue = (int(x) for x in rng.integers(0, 256, 3))
    if rng.random() < 0.6:
        red, green, blue = vocabulary.backgrounds()[rng.integers(len(vocabulary.backgrounds()))].rgb
    change = VARIANTS[variant]
    return View(size, left, top, (red, green, blue), None, False, change.flipped, change.channels)


def show(character: str, variant: int, view: View) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The whole picture and the masked one, uint8 [64, 64, 3], and the mask at each patch's first pixel [patches]."""
    picture = rendered(wide_pictures()[character], view)
    tile = tile_of(wide_pictures()[character], view.size, view.flipped, view.channels)
    mask = solid(tile, view.left, view.top)
    return picture, picture * mask[..., None], mask[:: clip.PATCH, :: clip.PATCH].reshape(-1)


def draw_caption(rng: np.random.Generator, ground: int) -> str:
    """ "a S on a blue background" or another form of it; white may go unnamed."""
    words = vocabulary.table()["languages"]["English"]
    colour = vocabulary.table()["backgrounds"][ground]
    unnamed = colour["key"] == "white" and rng.random() < 2 / 3
    forms = words["plain" if unnamed else "scene"]
    names = [colour["names"]["English"]] * 2 + colour["synonyms"]["English"]
    article = words["articles"][rng.integers(len(words["articles"]))]
    item = f"{article} {PLACEHOLDER}".strip()
    return forms[rng.integers(len(forms))].format(item=item, background=names[rng.integers(len(names))])


def word_index(ids: np.ndarray) -> Tensor:
    """Where the placeholder stands in each row of ids, int64 [n]; the row's length where it does not."""
    token = english.tokenizer().encode(PLACEHOLDER, add_special_tokens=False).ids
    assert len(token) == 1, token
    found = ids == token[0]
    return torch.from_numpy(np.where(found.any(1), found.argmax(1), ids.shape[1])).to(device())
