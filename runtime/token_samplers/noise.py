"""The random draws of a walk through tokens: from a seed for each picture, or recorded."""

import math
from collections import Counter
from collections.abc import Mapping
from functools import partial

import numpy as np

from ..errors import InputError
from .row_blocks import for_each_block

PER_STEP = 2
"""The float32 values that a step of the generator makes."""


class TokenNoise:
    """Draws for `count` pictures by name; picture k is drawn from `seed + k`, whatever is drawn beside it.

    Every name is a stream of its own: `uniform("draw", (n, k))` called three times gives the first three draws of it.
    With `recorded` arrays, [draws, count, ...] by their names, nothing is drawn: they are read in order. Raises
    InputError where they lack a draw or have another shape.
    """

    def __init__(self, seed: int, count: int, recorded: Mapping[str, np.ndarray] | None = None):
        self._seed, self._count, self._recorded = seed, count, recorded
        self._streams: dict[str, list[np.random.Generator]] = {}
        self._drawn, self._read = Counter[str](), Counter[str]()

    def uniform(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """float32 [count, *shape], each value from 0 to below 1."""
        if self._recorded is not None:
            return self._next(name, shape)
        made = np.empty((self._count, *shape), np.float32)
        length = math.prod(shape)
        seeds = stream_seeds(name, self._seed, self._count)
        for values, seed in zip(made.reshape(self._count, length), seeds, strict=True):
            for_each_block(length, 1, partial(_fill_uniform, values, seed, self._drawn[name]))
        self._drawn[name] += length
        return made

    def exponential(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """float32 [count, *shape], exponential of mean 1."""
        if self._recorded is not None:
            return self._next(name, shape)
        if name not in self._streams:
            seeds = stream_seeds(name, self._seed, self._count)
            self._streams[name] = [np.random.Generator(np.random.PCG64(seed)) for seed in seeds]
        made = np.empty((self._count, *shape), np.float32)
        for values, stream in zip(made, self._streams[name], strict=True):
            stream.standard_exponential(dtype=np.float32, out=values)
        return made

    def _next(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        assert self._recorded is not None
        number = self._read[name]
        self._read[name] += 1
        draws = self._recorded.get(name)
        if draws is None or len(draws) <= number:
            got = "no such array" if draws is None else f"{len(draws)}"
            raise InputError(
                f"noise: expected at least {number + 1} draws named {name!r}, got {got}; record more steps"
            )
        if draws[number].shape != (self._count, *shape):
            raise InputError(
                f"noise: expected draws {name!r} of shape {[self._count, *shape]}, got {list(draws[number].shape)}; "
                "record them with this bundle"
            )
        return np.asarray(draws[number], np.float32)


def stream_seeds(name: str, seed: int, count: int) -> list[np.random.SeedSequence]:
    """Those of the stream of a name, one for each of `count` pictures: picture k's is made of `seed + k`."""
    key = int.from_bytes(name.encode(), "big")
    return [np.random.SeedSequence([seed + k, key]) for k in range(count)]


def _fill_uniform(values: np.ndarray, seed: np.random.SeedSequence, drawn: int, part: slice) -> None:
    """Fills a part of values [n], of which the first comes behind `drawn` values of a stream: it can be entered
    anywhere."""
    steps, begun = divmod(drawn + part.start, PER_STEP)
    stream = np.random.Generator(np.random.PCG64(seed).advance(steps))
    if begun:
        stream.random(dtype=np.float32)
    stream.random(dtype=np.float32, out=values[part])
