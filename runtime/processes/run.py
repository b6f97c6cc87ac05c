"""What every kind of process is given for one run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..inputs.option import NamedTensors
from ..output import Timings
from ..samplers.sampler import Sampler
from ..sessions.session import Session

PredictStep = Callable[[NamedTensors, float], NamedTensors]
"""(the graph's inputs that change from step to step, one row each picture; the timestep, by which its segment is
chosen) -> its outputs, guided."""


@dataclass(frozen=True, slots=True)
class ProcessRun:
    """One run of a process, for `count` pictures with `grid` = (height, width) cells each.

    `noise` replaces the draws from `seed`; `sampler` is a latents' own. `values` holds every option of the call,
    `slots` what inputs, conditioners and earlier processes left. `before_preview` is called before a step is decoded.
    """

    predict: PredictStep
    session: Callable[[str], Session]
    file: Callable[[str], Path]
    timings: Timings
    seed: int
    count: int
    grid: tuple[int, int]
    noise: np.ndarray | Mapping[str, np.ndarray] | None
    sampler: Sampler | None
    values: Mapping[str, Any]
    slots: NamedTensors
    before_preview: Callable[[], None]


class LatestCall:
    """The denoiser as a sampler of latents calls it; keeps the latest call: latents, timestep and guided noise."""

    def __init__(self, predict: PredictStep):
        self._predict = predict
        self.call: tuple[np.ndarray, float, np.ndarray]

    def __call__(self, latents: np.ndarray, timestep: float) -> np.ndarray:
        given = {"latents": latents, "timestep": np.full(len(latents), timestep, np.float32)}
        noise = self._predict(given, timestep)["noise"]
        self.call = latents, timestep, noise
        return noise
