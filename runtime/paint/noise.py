"""The start noise of regions that have seeds of their own."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from .maps import pixels_resized

REGION_NOISE, REGION_COVER = "region_noise", "region_cover"
"""Slots: noise float32 [1, C, h, w], and above 0 where it takes the place of a picture's own, float32 [1, 1, h, w]."""
REGION_DRAW = re.compile(r"region\.[0-9]{1,4}")
"""Names of recorded draws."""


def region_draw(number: int) -> str:
    """The name of a region's noise among recorded draws, by its place among the regions, from 0."""
    return f"region.{number}"


def drawn_noise(seed: int, shape: tuple[int, int, int]) -> np.ndarray:
    """float32 [C, h, w]: a whole picture's start noise from the seed, of which the region takes its part."""
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(shape, np.float32)


def regions_noise(masks: Sequence[np.ndarray], draws: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """The slots of regions [H, W], above 0 inside, with the noise [C, h, w] of each.

    Where regions overlap their noises are added, and at a border they fade, as in the public Stable Diffusion port of
    paint-with-words (cloneofsimo/paint-with-words-sd).
    """
    size = draws[0].shape[1], draws[0].shape[2]
    shares = [pixels_resized((mask > 0).astype(np.float32), size) for mask in masks]
    noise = sum((share * draw for share, draw in zip(shares, draws, strict=True)), np.float32(0))
    cover = sum(shares, np.float32(0))
    return {REGION_NOISE: np.asarray(noise)[None], REGION_COVER: np.asarray(cover)[None, None]}


def over_regions(noise: np.ndarray, slots: Mapping[str, np.ndarray]) -> np.ndarray:
    """Start noise [B, C, h, w] with that of regions in its place, where there are any with a seed."""
    own = slots.get(REGION_NOISE)
    return noise if own is None else np.where(slots[REGION_COVER] > 0, own, noise)
