"""Which rows of a slot a graph reads that is called for every picture and side of the guidance at once."""

import numpy as np

from ..bundle.cfg_batch import expand_prompts
from ..inputs.option import NamedTensors
from ..request import Request


class PictureRows:
    """`rows(slot, sides, side)`: a slot's rows for every picture of `sides` sides of the guidance, or of one `side`.

    Slots hold one row for each side of the run's guidance, or one for both, or one for each prompt of each side; those
    of `written` one for each picture, those of `joined` one for each side and picture. What was made is kept.
    """

    def __init__(
        self,
        slots: NamedTensors,
        request: Request,
        written: frozenset[str] = frozenset(),
        joined: frozenset[str] = frozenset(),
    ):
        self._slots, self._request, self._written, self._joined = slots, request, written, joined
        self._kept: dict[tuple[str, int, int | None], np.ndarray] = {}

    def __call__(self, slot: str, sides: int, side: int | None = None) -> np.ndarray:
        key = slot, sides, side
        if key not in self._kept:
            self._kept[key] = self._made(*key)
        return self._kept[key]

    def clear(self) -> None:
        """Lets go of what was made."""
        self._kept.clear()

    def _made(self, slot: str, sides: int, side: int | None) -> np.ndarray:
        request, array = self._request, self._slots[slot]
        if slot in self._written:
            return np.concatenate([array] * (sides if side is None else 1))
        if slot in self._joined:
            return side_rows(array[-sides * request.count :], side, request.count)
        rows = side_rows(expand_prompts(array, sides, request.rows, request.prompts), side, request.prompts)
        return np.repeat(rows, request.count // request.prompts, axis=0)


def side_rows(array: np.ndarray, side: int | None, count: int) -> np.ndarray:
    """The rows of one side of the guidance, which has `count` of them, or all."""
    return array if side is None else array[side * count : (side + 1) * count]
