"""The guided noise prediction a sampler calls: picks the segment, batches the guidance, remembers the prediction."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .plan import Plan
from .preset import Preset
from .reuse import Reuse
from .samplers.schedule import Schedule
from .sessions.session import Outputs, Session
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


@dataclass(frozen=True, slots=True)
class _Bound:
    """A graph with a segment's context, and the names of the inputs that are left."""

    call: Callable[..., Outputs]
    free: frozenset[str]


class Denoiser:
    """One run's `denoise(latents, timestep)`.

    `slots` hold one row for each side of the guidance, or one for both; they are repeated for `count` pictures once,
    before the loop, for all segments. A delayed segment takes over once the calls, counted from 0, have passed
    `last_plain_call`. `preset` says which calls are made with less.
    """

    def __init__(
        self,
        plan: Plan,
        session: Callable[[str], Session],
        slots: Slots,
        guidance: float,
        count: int,
        last_plain_call: float = 0.0,
        preset: Preset | None = None,
    ):
        self._plan, self._guidance, self._last_plain_call = plan, guidance, last_plain_call
        self._session, self._count = session, count
        self._reuse = Reuse(preset or Preset(), sides_of(guidance), len(plan.segments) - 1)
        self._slots = slots
        self._rows: dict[tuple[str, int], np.ndarray] = {}
        self._bounds: dict[tuple[int, str, int], _Bound] = {}
        self.served: list[int] = []
        """The number of the plan's segment behind every call so far."""
        self.graphs: list[str] = []
        """The graph behind every call so far."""
        self.last: Call | None = None

    def __call__(self, latents: np.ndarray, timestep: float) -> np.ndarray:
        """Noise of float32 latents [B, C, h, w] at a timestep; one call of the graph, whatever the guidance."""
        number = self._plan.segment_at(timestep, delayed=len(self.served) <= self._last_plain_call)
        way = self._reuse.next(number, timestep)
        graph = way.variant(self._plan.segments[number].graph).name
        bound = self._bound(number, graph, way.sides)
        batch = np.concatenate([latents, latents]) if way.sides == 2 else latents
        times = np.full(len(batch), timestep, np.float32)
        taken = self._reuse.taken(way, len(batch))
        kept = {name: taken[name] for name in bound.free & taken.keys()}
        outputs = bound.call(latents=batch, timestep=times, **kept)
        self._reuse.keep(way, outputs)
        noise = outputs["noise"]
        if way.sides == 2:
            unconditional, conditional = np.split(noise, 2)
            noise = unconditional + np.float32(self._guidance) * (conditional - unconditional)
        self.last = Call(latents, timestep, noise)
        self.served.append(number)
        self.graphs.append(graph)
        return noise

    def release(self) -> None:
        """Lets go of the sessions and what was bound to them."""
        self._bounds.clear()
        self._rows.clear()

    def _bound(self, number: int, graph: str, sides: int) -> _Bound:
        """A device takes the context into its memory once per run, when a segment's graph first serves."""
        key = number, graph, sides
        if key not in self._bounds:
            self._bounds[key] = self._bind(*key)
        return self._bounds[key]

    def _bind(self, number: int, graph: str, sides: int) -> _Bound:
        session = self._session(graph)
        names = {tensor.name for tensor in session.inputs}
        wires = wired(self._plan.segments[number].context, (tensor.name for tensor in session.inputs))
        # What a variant takes from an earlier call has no use for some of the context.
        rows = {name: self._row(slot, sides) for name, slot in wires.items() if name in names}
        return _Bound(session.bind(**rows), frozenset(names - rows.keys()))

    def _row(self, slot: str, sides: int) -> np.ndarray:
        """A slot's rows for every picture."""
        if (slot, sides) not in self._rows:
            self._rows[slot, sides] = np.repeat(for_sides(self._slots[slot], sides), self._count, axis=0)
        return self._rows[slot, sides]
