"""The standard-normal draws of a walk: from the seed of each picture, or recorded."""

from collections.abc import Mapping
from itertools import count

import numpy as np

from ..errors import InputError
from ..inputs.option import Shape
from ..samplers.sampler import Draw, Noise
from .run import ProcessRun

START_NOISE, STEP_NOISE = "noise", "step_noise"
"""Recorded draws, [n, count, ...]: the start's, of which there is one, and those of the steps that add some, in their
order. Those of a process beside the main one have its prefix in front: `prior_noise`."""


def draw_names(prefix: str) -> tuple[str, str]:
    """What the start noise and the steps' noise of a process are called."""
    return f"{prefix}{START_NOISE}", f"{prefix}{STEP_NOISE}"


def draws_of(run: ProcessRun, shape: Shape) -> tuple[np.ndarray, Draw]:
    """The start noise, float32 [count, *shape], and what draws the steps' noise.

    Raises InputError for recorded draws of another shape. A process beside the main one draws from streams of its own
    name.
    """
    start, steps = draw_names(run.draws)
    drawn = Noise(run.seed, run.count, shape, start if run.draws else "")
    recorded = {START_NOISE: run.noise[None]} if isinstance(run.noise, np.ndarray) else run.noise or {}
    # What is recorded is not drawn: the steps' draws come behind it all the same.
    noise = _read(recorded, start, 0, (run.count, *shape)) if start in recorded else drawn()
    if steps not in recorded:
        return noise, drawn
    numbers = count()
    return noise, lambda: _read(recorded, steps, next(numbers), (run.count, *shape))


def _read(recorded: Mapping[str, np.ndarray], name: str, number: int, shape: Shape) -> np.ndarray:
    draws = recorded[name]
    if len(draws) <= number or draws.shape[1:] != shape:
        raise InputError(
            f"noise: expected more than {number} draws named {name} of shape {list(shape)}, got {list(draws.shape)}; "
            "give them all, or leave them out"
        )
    return np.ascontiguousarray(draws[number], np.float32)
