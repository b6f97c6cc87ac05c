"""Recorded inputs of a graph, one `.npz` file each, read one at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Samples:
    """The files of one graph's recorded inputs. Iterating reads them, in the same order every time."""

    files: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Arrays]:
        for path in self.files:
            with np.load(path, allow_pickle=False) as stored:
                yield dict(stored)
