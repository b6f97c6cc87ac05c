"""What every sampler is to the loop: the timesteps it visits and a generator over latents."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

Denoise = Callable[[np.ndarray, float], np.ndarray]
"""Guided noise prediction: (latents [B, C, H, W] float32, timestep) -> epsilon of the same shape."""

Draw = Callable[[], np.ndarray]
"""One more standard-normal draw of the latents' shape, for samplers that add noise on the way."""


@dataclass(frozen=True, slots=True)
class Sampler:
    """One sampler, set up for one schedule and one number of steps; it keeps no state between runs.

    `timesteps` has one entry per yielded step; `noise_scale` is the standard deviation of the start noise.
    `run(x, denoise, draw)` starts from scaled noise and yields the latents after each step.
    """

    timesteps: tuple[float, ...]
    noise_scale: float
    run: Callable[[np.ndarray, Denoise, Draw], Iterator[np.ndarray]]
