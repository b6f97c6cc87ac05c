"""How far a graph's noise is from another's."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from x2i.runtime.sessions.backends import open_session
from x2i.runtime.sessions.graph_file import GraphFile

from .samples import Arrays

NOISE = "noise"


def relative_error(graph: Path, reference: Path, samples: Iterable[Arrays]) -> float:
    """Relative L2 distance of two graphs' noise over all samples; one graph is in memory at a time."""
    return distance(noises(graph, samples), noises(reference, samples))


def noises(graph: Path, samples: Iterable[Arrays]) -> list[np.ndarray]:
    session = open_session("cpu", GraphFile("denoiser", graph))
    return [session(**sample)[NOISE] for sample in samples]


def distance(actual: Iterable[np.ndarray], expected: Iterable[np.ndarray]) -> float:
    """|actual - expected| / |expected|, each the root of the squares of all arrays."""
    off = total = 0.0
    for one, other in zip(actual, expected, strict=True):
        off += float(np.square(one - other, dtype=np.float64).sum())
        total += float(np.square(other, dtype=np.float64).sum())
    return float(np.sqrt(off / total))
