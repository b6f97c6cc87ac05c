"""The guided noise prediction a sampler calls: picks the segment, batches the guidance, remembers the prediction."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from .plan import Plan
from .samplers.schedule import Schedule
from .sessions.session import Session
from .slots import Slots, for_sides, sides_of, wired


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

    `slots` hold one row for each side of the guidance, or one for both; they are repeated for `count` pictures once,
    before the loop, for all segments. A delayed segment takes over once the calls, counted from 0, have passed
    `last_plain_call`.
    """

    def __init__(
        self,
        plan: Plan,
        session: Callable[[str], Session],
        slots: Slots,
        guidance: float,
        count: int,
        last_plain_call: float = 0.0,
    ):
        self._segments, self._guidance, self._last_plain_call = plan.segments, guidance, last_plain_call
        wires = [wired(s.context, (tensor.name for tensor in session(s.graph).inputs)) for s in plan.segments]
        rows = {
            slot: np.repeat(for_sides(slots[slot], sides_of(guidance)), count, axis=0)
            for slot in {slot for wire in wires for slot in wire.values()}
        }
        context = [{name: rows[slot] for name, slot in wire.items()} for wire in wires]
        # A device takes the context into its memory once per run, when the segment first serves.
        self._bound = cache(lambda number: session(plan.segments[number].graph).bind(**context[number]))
        self.served: list[int] = []
        """The number of the plan's segment behind every call so far."""
        self.last: Call | None = None

    def __call__(self, latents: np.ndarray, timestep: float) -> np.ndarray:
        """Noise of float32 latents [B, C, h, w] at a timestep; one call of the graph, whatever the guidance."""
        number = self._in_charge(timestep)
        guided = self._guidance != 1.0
        batch = np.concatenate([latents, latents]) if guided else latents
        times = np.full(len(batch), timestep, np.float32)
        noise = self._bound(number)(latents=batch, timestep=times)["noise"]
        if guided:
            unconditional, conditional = np.split(noise, 2)
            noise = unconditional + np.float32(self._guidance) * (conditional - unconditional)
        self.last = Call(latents, timestep, noise)
        self.served.append(number)
        return noise

    def _in_charge(self, timestep: float) -> int:
        """The number of the last segment that has begun."""
        delayed = len(self.served) <= self._last_plain_call
        return max(
            number
            for number, segment in enumerate(self._segments)
            if segment.from_timestep >= timestep and not (delayed and segment.delay is not None)
        )
