"""What every sampler is to the loop, and the random draws of a run."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, TypeVar

import numpy as np

from ..errors import InputError
from ..token_samplers.noise import stream_seeds

Denoise = Callable[[np.ndarray, float], np.ndarray]
"""Guided model output: (model input [B, C, H, W] float32, timestep) -> a new float32 array of that shape, which means
what the schedule's `prediction_type` says.

Both arguments are what the UNet must see: scaled where the sampler scales, and with a fraction where it has one.
With a learned variance the output has twice the channels. Multistep samplers keep the returned arrays, so a buffer that
the next call overwrites must be copied first.
"""
Draw = Callable[[], np.ndarray]
"""One more standard-normal draw of the latents' shape (float32), for samplers that add noise on the way."""
Clean = Callable[[np.ndarray, np.ndarray, float], np.ndarray]
"""(model input, guided model output, timestep) -> the clean latents that the output means, for previews."""
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Level:
    """One point of a run, where latents are signal * clean + noise_level * noise."""

    signal: float
    noise_level: float

    @property
    def log_snr(self) -> float:
        """log(signal / noise_level), infinite without noise."""
        return math.inf if self.noise_level == 0 else math.log(self.signal) - math.log(self.noise_level)

    def of(self, clean: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Clean latents with this much noise: what diffusers' schedulers call `add_noise`."""
        return np.float32(self.signal) * clean + np.float32(self.noise_level) * noise


CLEAN = Level(1.0, 0.0)
"""Where every run is meant to end."""
Keep = Callable[[np.ndarray, Level], np.ndarray]
"""(latents behind a model call, the level they have come to) -> the latents to go on with: those behind the last call
have come to no noise, whatever the sampler's last level is."""


def _as_they_are(latents: np.ndarray, level: Level) -> np.ndarray:
    return latents


@dataclass(frozen=True, slots=True)
class Begin:
    """Where a run begins, at which of its steps, and what `keep` makes of its latents behind each call of the model."""

    step: int = 0
    keep: Keep = _as_they_are

    def rest(self, steps: Sequence[Item]) -> Iterator[tuple[int, Item]]:
        """The steps from the first one on, each with its number in the whole run."""
        return islice(enumerate(steps), self.step, None)


WHOLE = Begin()
"""From noise to the end, untouched."""


class SamplerRun(Protocol):
    """`(x, denoise, draw, begin)`: from latents at the level of the step it begins with, those after each step."""

    def __call__(
        self, x: np.ndarray, denoise: Denoise, draw: Draw, begin: Begin = WHOLE, /
    ) -> Iterator[np.ndarray]: ...


@dataclass(frozen=True, slots=True)
class Sampler:
    """One sampler, set up for one schedule and one number of steps; it keeps no state between runs.

    `timesteps` has one entry per yielded step; `noise_scale` is the standard deviation of the start noise.
    `run(x, denoise, draw)` starts from scaled noise (float32) and yields the latents after each step, float32 too.
    It changes none of the arrays it is given; the yielded ones are its state, so the caller reads and does not write.
    With a fourth argument it begins midway, at latents of one of the levels `starts`; there is one for each step that
    it can begin with.
    """

    timesteps: tuple[float, ...]
    noise_scale: float
    run: SamplerRun
    starts: tuple[Level, ...]
    extra_calls: int = 0
    """Model calls beyond one a step."""
    calls_a_step: int = 1
    """Model calls of a step that is neither the first nor the last."""
    clean: Clean | None = None
    """How an output is read where its timestep is no place in the schedule; None leaves it to the schedule."""
    unasked: int = 0
    """Steps beyond those asked for, of which a run that begins midway leaves out as many more."""
    asked: int = 0
    """Steps asked for."""
    sigmas: tuple[float, ...] = ()
    """The noise per unit of signal at each of `timesteps`, of a sampler that walks such levels."""
    trained: Callable[[], np.ndarray] | None = None
    """The same after each training step, ascending, which says it of any other timestep."""

    @property
    def calls(self) -> int:
        """How often a run calls the model."""
        return len(self.timesteps) + self.extra_calls

    def sigma_at(self, timestep: float) -> float:
        """The noise per unit of signal of the latents that the model sees at a timestep: the sampler's own level, or
        the schedule's, between whole timesteps by the logarithm. Of one visited twice it is the first's."""
        if timestep in self.timesteps and self.sigmas:
            return self.sigmas[self.timesteps.index(timestep)]
        assert self.trained is not None, "a sampler that was not made by its name"
        trained = self.trained()
        return math.exp(np.interp(timestep, np.arange(len(trained)), np.log(trained)))

    def first_step(self, strength: float) -> int:
        """The step to begin with where a share `strength` of the steps asked for is made, as diffusers counts it.

        Raises InputError where that leaves no step, or for a sampler that cannot begin there.
        """
        walked = min(int(self.asked * strength), self.asked)
        if walked < 1:
            raise InputError(
                f"start_strength: expected {1 / self.asked:.2g} or more, which leaves one of {self.asked} steps, got "
                f"{strength:g}; raise it, or ask for more steps"
            )
        first = self.asked + self.unasked - walked
        if first >= len(self.starts):
            raise InputError(
                f"start_strength: expected 1 for a sampler whose first steps fill its history with Runge-Kutta's, got "
                f"{strength:g}; use another sampler"
            )
        return first


class Noise:
    """Standard-normal draws for `count` pictures; picture k is drawn from `seed + k`.

    So a picture does not depend on how many are drawn with it, and the k-th of a batch can be had alone. A named
    `stream` is another for the same seeds.
    """

    def __init__(self, seed: int, count: int, shape: tuple[int, ...], stream: str = ""):
        seeds = stream_seeds(stream, seed, count) if stream else [seed + k for k in range(count)]
        self._generators = [np.random.Generator(np.random.PCG64(each)) for each in seeds]
        self._shape = shape

    def __call__(self) -> np.ndarray:
        """float32 [count, *shape]."""
        return np.stack([g.standard_normal(self._shape, np.float32) for g in self._generators])
