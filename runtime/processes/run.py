"""What every kind of process is given for one run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..inputs.option import NamedTensors
from ..output import Timings
from ..samplers.sampler import Denoise, Sampler
from ..sessions.session import Session

PredictStep = Callable[[NamedTensors, float], NamedTensors]
"""(the graph's inputs that change from step to step, one row each picture; the timestep, by which its segment is
chosen) -> its outputs, guided."""

LatestCall = tuple[np.ndarray, float, np.ndarray]
"""Latents, timestep and guided noise."""


@dataclass(frozen=True, slots=True)
class ProcessRun:
    """One run of a process, for `count` pictures with `grid` = (height, width) cells each.

    Latents' samplers call `noise_of`, and `latest` gives its latest call. `noise` replaces the draws from `seed`;
    `sampler` is a latents' own, and `first_step` the one that a start is noised for, None for a walk from pure noise.
    `draws` stands before the names of its recorded draws.
    `values` holds every option of the call, `slots` what inputs, conditioners and earlier processes left, and `rows`
    gives a slot's row for each picture, of the conditional side.
    `before_preview` is called before a step is decoded. `by_preview` says that the decoder of previews, where there is
    one, draws the picture, too.
    """

    predict: PredictStep
    noise_of: Denoise
    latest: Callable[[], LatestCall]
    session: Callable[[str], Session]
    file: Callable[[str], Path]
    timings: Timings
    seed: int
    count: int
    grid: tuple[int, int]
    noise: np.ndarray | Mapping[str, np.ndarray] | None
    sampler: Sampler | None
    first_step: int | None
    values: Mapping[str, Any]
    slots: NamedTensors
    rows: Callable[[str], np.ndarray]
    before_preview: Callable[[], None]
    by_preview: bool = False
    draws: str = ""
