"""A model small enough to follow by hand, and walks over it: ours, and a recording of what the model was shown."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from x2i.runtime.samplers.sampler import Denoise, Sampler

SHAPE = (3, 4, 5, 7)


def toy_model(x: np.ndarray, timestep: float, context: np.ndarray) -> np.ndarray:
    """eps = tanh(x * (0.1 + t / 1000) + c), float32: what the goldens' toy model computes."""
    slope = np.float32(0.1) + np.float32(timestep) / np.float32(1000)
    return np.tanh(x * slope + context)


def normal(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(SHAPE, dtype=np.float32)


def context(seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((SHAPE[0], SHAPE[1], 1, 1), dtype=np.float32)


def draws(seed: int = 100) -> Callable[[], np.ndarray]:
    """A source of step noise that gives the same arrays to every run that starts it anew."""
    seeds = iter(range(seed, seed + 2000))
    return lambda: normal(next(seeds))


@dataclass
class Recorder:
    """A denoiser that remembers what it was shown."""

    denoise: Denoise
    timesteps: list[float] = field(default_factory=list)
    inputs: list[np.ndarray] = field(default_factory=list)

    def __call__(self, x: np.ndarray, timestep: float) -> np.ndarray:
        self.timesteps.append(timestep)
        self.inputs.append(x.copy())
        return self.denoise(x, timestep)


def plain(condition: np.ndarray) -> Denoise:
    return lambda x, timestep: toy_model(x, timestep, condition)


def walk(sampler: Sampler, noise: np.ndarray, denoise: Denoise, seed: int = 100) -> Iterator[np.ndarray]:
    return sampler.run(noise * np.float32(sampler.noise_scale), denoise, draws(seed))
