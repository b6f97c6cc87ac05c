"""Sizes of pictures: which a bundle draws, how many cells of its state they have, and whether they fit the memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from ..errors import InputError
from ..inputs.option import is_count, is_same_size, short
from ..inputs.sampling import MOST_PICTURES, MOST_PIXELS
from ..machine import available_memory

BYTES_PER_PIXEL = 30
"""The least that a picture takes while it is decoded: its channels in float32 twice, in bytes twice."""
SMALL_DRAWING_BYTES = 500_000_000
"""Less is drawn without a look at the memory."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """`size` is the usual (height, width) in pixels, `factor` the pixels of a cell's side, in latents or tokens.

    Every side must be a multiple of `multiple`; a `fixed` canvas has the one size. Without `pictures` there are cells
    alone, such as those of a sound. `grid` is (height, width) of the state where more than a picture is in it.
    """

    size: tuple[int, int]
    factor: int
    multiple: int
    fixed: bool = False
    pictures: bool = True
    grid: tuple[int, int] | None = None

    def cells(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the state behind a picture."""
        return (size[0] // self.factor, size[1] // self.factor) if self.grid is None else self.grid

    def of_call(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) in pixels that is drawn where a call's is `size`."""
        return self.size if self.fixed else size

    def check(self, size: tuple[int, int]) -> None:
        """Raises InputError for a size in pixels that is not drawn or that needs more memory than is free."""
        if problems := self.problems(size) or self.memory_problems(size, 1):
            raise InputError(*problems)

    def problems(self, size: Any) -> list[str]:
        """One line for what is no size of this canvas."""
        if self.fixed:
            return self._other_than_fixed(size)
        whole = (
            isinstance(size, Sequence)
            and len(size) == 2
            and all(isinstance(side, Integral) and not isinstance(side, bool) and int(side) > 0 for side in size)
        )
        if whole and int(max(size)) > MOST_PIXELS:
            return [f"size: expected at most {MOST_PIXELS} pixels a side, got {short(size)}; draw a smaller picture"]
        if whole and all(side % self.multiple == 0 for side in size):
            return []
        fix = ""
        if whole:
            near = [max(self.multiple, round(side / self.multiple) * self.multiple) for side in size]
            fix = f"; try {near[0]}x{near[1]}"
        return [f"size: expected (height, width) in multiples of {self.multiple} pixels, got {short(size)}{fix}"]

    def memory_problems(self, size: tuple[int, int], count: Any) -> list[str]:
        """One line where the pictures alone, decoded and in bytes, need more memory than there is."""
        if not is_count(count, MOST_PICTURES):
            return []
        needed = BYTES_PER_PIXEL * count * size[0] * size[1]
        # Whoever draws little need not ask the system.
        if needed < SMALL_DRAWING_BYTES or (free := available_memory()) is None or needed <= free:
            return []
        pictures = f"{count} picture{'s' * (count != 1)} of {size[0]}x{size[1]}, which need over {needed / 1e9:.1f} GB"
        room = f"expected what fits into {free / 1e9:.1f} GB of free memory"
        return [f"size and count: {room}, got {pictures}; draw fewer or smaller pictures"]

    def _other_than_fixed(self, size: Any) -> list[str]:
        if is_same_size(size, self.size):
            return []
        if not self.pictures:
            return [f"size: this bundle draws no picture, got {short(size)}; leave it out"]
        height, width = self.size
        return [f"size: expected {height}x{width}, the only size of this bundle, got {short(size)}; leave it out"]
