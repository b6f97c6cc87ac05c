"""UniD3's recorded runs as our samplers read them: classes last, draws of 16 bits, and walks over what was said."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from x2i.runtime.token_samplers.noise import TokenNoise
from x2i.runtime.token_samplers.sampler import Predict, TokenRun, TokenSampler

from tests.goldens import golden, golden_arrays

Arrays = dict[str, np.ndarray]


def recorded_runs(folder: str) -> dict[str, Arrays]:
    """Every `run_*.npz` of a folder of goldens, by its name without the ending."""
    paths = sorted(golden(folder).glob("run_*.npz"))
    assert paths, folder
    return {path.stem: golden_arrays(f"{folder}/{path.name}") for path in paths}


def classes_last(values: np.ndarray) -> np.ndarray:
    """[..., classes, length] as [..., length, classes]."""
    return values.swapaxes(-1, -2)


def uniforms(recorded: np.ndarray) -> np.ndarray:
    """The draws from 0 to 1, float32 [..., length, classes], that a run kept as uint16 [..., classes, length]."""
    return (classes_last(recorded).astype(np.float32) + np.float32(0.5)) / np.float32(65536)


def token_run(
    predict: Predict,
    noise: Arrays,
    count: int,
    length: int,
    values: Mapping[str, Any] | None = None,
    slots: Arrays | None = None,
) -> TokenRun:
    """One run of recorded noise, {name: [draws, count, ...]}."""
    return TokenRun(predict, TokenNoise(0, count, noise), count, (1, length), values or {}, slots or {})


def as_read(predict: Predict, read: list[np.ndarray]) -> Predict:
    """The same network, which keeps the tokens that it is asked about."""

    def kept(tokens: np.ndarray, timestep: np.ndarray | int) -> Arrays:
        read.append(tokens)
        return predict(tokens, timestep)

    return kept


def states(sampler: TokenSampler, run: TokenRun) -> Iterator[np.ndarray]:
    """The tokens after each step."""
    return (step.tokens for step in sampler.walk(run))


def in_order(said: np.ndarray, make: Callable[[np.ndarray], Arrays]) -> Predict:
    """A network that says, call by call, what was recorded."""
    calls = iter(said)
    return lambda tokens, timestep: make(next(calls))
