"""What every sampler is to the loop, and the random draws of a run."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

Denoise = Callable[[np.ndarray, float], np.ndarray]
"""Guided model output: (model input [B, C, H, W] float32, timestep) -> a new float32 array of that shape, which means
what the schedule's `prediction_type` says.

Both arguments are what the UNet must see: scaled where the sampler scales, and with a fraction where it has one.
Multistep samplers keep the returned arrays, so a buffer that the next call overwrites must be copied first.
"""
Draw = Callable[[], np.ndarray]
"""One more standard-normal draw of the latents' shape (float32), for samplers that add noise on the way."""
Clean = Callable[[np.ndarray, np.ndarray, float], np.ndarray]
"""(model input, guided model output, timestep) -> the clean latents that the output means, for previews."""


@dataclass(frozen=True, slots=True)
class Sampler:
    """One sampler, set up for one schedule and one number of steps; it keeps no state between runs.

    `timesteps` has one entry per yielded step; `noise_scale` is the standard deviation of the start noise.
    `run(x, denoise, draw)` starts from scaled noise (float32) and yields the latents after each step, float32 too.
    It changes none of the arrays it is given; the yielded ones are its state, so the caller reads and does not write.
    """

    timesteps: tuple[float, ...]
    noise_scale: float
    run: Callable[[np.ndarray, Denoise, Draw], Iterator[np.ndarray]]
    extra_calls: int = 0
    """Model calls beyond one a step."""
    clean: Clean | None = None
    """How an output is read where its timestep is no place in the schedule; None leaves it to the schedule."""

    @property
    def calls(self) -> int:
        """How often a run calls the model."""
        return len(self.timesteps) + self.extra_calls


class Noise:
    """Standard-normal draws for `count` pictures; picture k is drawn from `seed + k`.

    So a picture does not depend on how many are drawn with it, and the k-th of a batch can be had alone.
    """

    def __init__(self, seed: int, count: int, shape: tuple[int, int, int]):
        self._generators = [np.random.Generator(np.random.PCG64(seed + k)) for k in range(count)]
        self._shape = shape

    def __call__(self) -> np.ndarray:
        """float32 [count, channels, height, width]."""
        return np.stack([g.standard_normal(self._shape, np.float32) for g in self._generators])
