"""The subjects of ELITE's batches: what the encoder is shown of one, and the caption that it is drawn from."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from ..recipe import clip
from ..recipe.training import device
from ..world import english, vocabulary
from ..world.scenes import CANVAS, PICTURE, wide_pictures
from ..world.subject_views import plain_view, rendered, solid, tile_of
from .subject_latents import EDGE, LATENT_VIEWS, characters

PLACEHOLDER = "S"
ALIGNED_SHARE = 0.8
SMALLEST = 44


@dataclass(frozen=True, slots=True)
class Shown:
    """What the encoder sees of a subject: the whole picture, uint8 [64, 64, 3], its mask, 0 or 1 [64, 64], and the
    subject's size and place there."""

    picture: np.ndarray
    mask: np.ndarray
    size: int
    left: int
    top: int

    @property
    def masked(self) -> np.ndarray:
        """The picture with black outside the mask."""
        return self.picture * self.mask[..., None]

    @property
    def grid(self) -> np.ndarray:
        """The mask at each patch's first pixel, [patches]."""
        return self.mask[:: clip.PATCH, :: clip.PATCH].reshape(-1)


@dataclass(frozen=True, slots=True)
class Drawn:
    """One row of a batch. `view` is (subject, variant, number of the view), `target` its place in `subject_latents`."""

    view: tuple[int, int, int]
    target: tuple[int, int, int]
    caption: str


def draw_subject(rng: np.random.Generator) -> Drawn:
    """A random subject as one of its views shows it, to be drawn in the middle of any background."""
    subject, variant = int(rng.integers(len(characters()))), int(rng.integers(len(LATENT_VIEWS)))
    view = 0 if rng.random() < ALIGNED_SHARE else 1
    ground = int(rng.integers(len(vocabulary.backgrounds())))
    return Drawn((subject, variant, view), (subject, variant, ground), draw_caption(rng, ground))


@cache
def shown(view: tuple[int, int, int]) -> Shown:
    """What a view shows. The first of each subject stands as in the target, the second at another place and size; each
    is on a background of its own."""
    subject, variant, number = view
    rng = np.random.default_rng([33, *view])
    change = LATENT_VIEWS[variant]
    chosen = plain_view(rng, not number, SMALLEST, change.flipped, change.channels)
    emoji = wide_pictures()[characters()[subject]]
    picture, tile = rendered(emoji, chosen), tile_of(emoji, chosen.size, change.flipped, change.channels)
    return Shown(picture, solid(tile, chosen.left, chosen.top), chosen.size, chosen.left, chosen.top)


@cache
def matches(view: tuple[int, int, int], side: int) -> tuple[np.ndarray, np.ndarray]:
    """For each place of the target on a side x side grid the patch of the view that shows the same, int64 [side^2], and
    whether both lie on the subject, bool [side^2]."""
    seen = shown(view)
    centres = (np.arange(side) + 0.5) * (CANVAS / side) - EDGE
    rows, columns = (
        np.clip(np.floor(centres * seen.size / PICTURE + edge), 0, CANVAS - 1).astype(int)
        for edge in (seen.top, seen.left)
    )
    patches = (rows // clip.PATCH)[:, None] * (CANVAS // clip.PATCH) + columns // clip.PATCH
    on_subject = (seen.mask[np.ix_(rows, columns)] > 0) & (seen.grid[patches] > 0)
    return patches.reshape(-1), on_subject.reshape(-1)


def draw_caption(rng: np.random.Generator, ground: int) -> str:
    """ "a S on a blue background" or another form of it; white may go unnamed."""
    words = vocabulary.vocabulary_table()["languages"]["English"]
    colour = vocabulary.vocabulary_table()["backgrounds"][ground]
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
