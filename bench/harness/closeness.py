"""How far what a contestant drew is from what its reference drew with the same weights, noise and steps."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from x2i.runtime.gate.metrics import psnr, relative_l2

RUNS = "picture", "short"
"""The whole picture where both drew one, else the run whose steps were timed."""
FARTHEST, WORST = 0.5, 20.0
"""Latents off by more than this share, or pictures below so many dB, are no drawing of the same picture."""


@dataclass(frozen=True, slots=True)
class Closeness:
    """How far a picture is from the reference's.

    `latents` is their relative L2, None where the stack shows none; `picture` is the PSNR in dB.
    """

    latents: float | None
    picture: float

    @property
    def same(self) -> bool:
        """Whether it is the same picture at all: a speed without that is none."""
        return self.picture >= WORST and (self.latents is None or self.latents <= FARTHEST)


def measure_closeness(actual: Path, expected: Path) -> Closeness | None:
    """The closeness of what two turns' folders hold; None where they have no run in common."""
    for run in RUNS:
        images = [folder / f"{run}-image.npy" for folder in (actual, expected)]
        if all(path.exists() for path in images):
            latents = [folder / f"{run}-latents.npy" for folder in (actual, expected)]
            shown = all(path.exists() for path in latents)
            return Closeness(relative_l2(*map(_read, latents)) if shown else None, psnr(*map(_read, images)))
    return None


def _read(path: Path) -> np.ndarray:
    return np.load(path, allow_pickle=False)
