"""The guided noise prediction a sampler calls: picks the segment, batches the guidance, remembers the prediction."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .plan import Plan, Segment
from .samplers.schedule import Schedule
from .sessions.session import Session


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the denoiser: what went in, and the guided noise that came out."""

    latents: np.ndarray
    timestep: float
    noise: np.ndarray

    def clean_latents(self, schedule: Schedule) -> np.ndarray:
        """The noise-free latents this call predicts, (x - sqrt(1 - a) eps) / sqrt(a)."""
        alphas = schedule.alphas_cumprod()
        alpha = np.float32(np.interp(self.timestep, np.arange(len(alphas)), alphas))
        return (self.latents - np.sqrt(1 - alpha) * self.noise) / np.sqrt(alpha)


class Denoiser:
    """One run's `denoise(latents, timestep)`.

    `slots` holds the conditions with batch 2 ([unconditional, conditional]) or 1; they are repeated for `count`
    pictures once, before the loop.
    """

    def __init__(
        self, plan: Plan, session: Callable[[str], Session], slots: dict[str, np.ndarray], guidance: float, count: int
    ):
        self._plan, self._session, self._guidance = plan, session, guidance
        read = {slot for segment in plan.segments for slot in segment.context.values()}
        self._slots = {name: np.repeat(slots[name], count, axis=0) for name in read}
        self.last: Call | None = None

    def __call__(self, latents: np.ndarray, timestep: float) -> np.ndarray:
        """Noise of float32 latents [B, C, h, w] at a timestep; one call of the graph, whatever the guidance."""
        segment = self._segment(timestep)
        context = {name: self._slots[slot] for name, slot in segment.context.items()}
        guided = self._guidance != 1.0
        batch = np.concatenate([latents, latents]) if guided else latents
        times = np.full(len(batch), timestep, np.float32)
        noise = self._session(segment.graph)(latents=batch, timestep=times, **context)["noise"]
        if guided:
            unconditional, conditional = np.split(noise, 2)
            noise = unconditional + np.float32(self._guidance) * (conditional - unconditional)
        self.last = Call(latents, timestep, noise)
        return noise

    def _segment(self, timestep: float) -> Segment:
        begun = [segment for segment in self._plan.segments if segment.from_timestep >= timestep]
        return begun[-1]
