"""The named tensors between graphs."""

from collections.abc import Iterable

import numpy as np

Slots = dict[str, np.ndarray]


def wired(mapping: dict[str, str], tensors: Iterable[str]) -> dict[str, str]:
    """A plan's mapping with `key.*` spelled out for the graph's tensors: tensor name to slot name."""
    names = list(tensors)
    out: dict[str, str] = {}
    for name, slot in mapping.items():
        if name.endswith(".*"):
            out |= {t: slot[:-1] + t[len(name) - 1 :] for t in names if t.startswith(name[:-1])}
        else:
            out[name] = slot
    return out


def sides_of(guidance: float) -> int:
    """Rows of the guidance: 2, [unconditional, conditional], or 1 where it is switched off."""
    return 1 if guidance == 1.0 else 2


def for_sides(array: np.ndarray, sides: int) -> np.ndarray:
    """The rows for both sides of the guidance, or for the conditional side alone; a single row serves both."""
    return np.repeat(array, sides, axis=0) if len(array) == 1 else array[-sides:]
