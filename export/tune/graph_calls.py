"""How often a run calls which graph, and how long each call takes."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np
from x2i.runtime.bundle.plan import Plan
from x2i.runtime.bundle.preset import Preset
from x2i.runtime.processes.denoiser import FeatureCache
from x2i.runtime.processes.segment import segment_at
from x2i.runtime.request import usual_guidance
from x2i.runtime.sessions.session import Arrays, BoundCall, Outputs, Session, SessionWrapper

CountedCall = tuple[str, int]
"""A graph, and the rows of the guidance that it is called with."""


def calls_of(plan: Plan, preset: Preset, steps: int | None = None) -> Counter[CountedCall]:
    """The calls of one run by graph and rows, with the preset's guidance or the plan's; `steps` are the plan's where
    neither it nor the preset says.

    Of a delayed segment its own delay is assumed.
    """
    steps = preset.steps or steps or plan.latents.sampler.steps
    walk = plan.latents.sampler.make(plan.latents.schedule, preset.sampler, steps)
    last_plain_call = -1.0 if plan.delay is None else plan.delay.last_call(steps, share=preset.delay)
    sides = plan.main.guidance.rows(usual_guidance(plan, preset))
    reuse, made = FeatureCache(preset, sides, len(plan.latents.segments) - 1), Counter[CountedCall]()

    def noted(latents: np.ndarray, timestep: float) -> np.ndarray:
        delayed = made.total() <= last_plain_call
        number = segment_at(plan.latents.segments, timestep, delayed)
        way = reuse.next(number, timestep)
        made[way.variant(plan.latents.segments[number].graph).name, way.rows] += 1
        return np.zeros_like(latents)

    nothing = np.zeros((1, plan.latents.decoder.channels, 1, 1), np.float32)
    for _ in walk.run(nothing, noted, lambda: nothing):
        pass
    return made


class Stopwatch:
    """Seconds of every call, by graph and rows of the batch."""

    def __init__(self) -> None:
        self.seconds: dict[CountedCall, list[float]] = defaultdict(list)

    def best(self, call: CountedCall) -> float:
        """The least of a call's times: what else the machine did only ever adds."""
        return min(self.seconds[call])

    def seen(self, calls: Iterable[CountedCall]) -> bool:
        """Whether each of the calls was timed once at least."""
        return all(self.seconds.get(call) for call in calls)

    def wrap(self, name: str, session: Session) -> Session:
        """The session of the graph `name`, every call of which is timed."""
        return _TimedSession(name, session, self)


class _TimedSession(SessionWrapper):
    def __init__(self, name: str, session: Session, watch: Stopwatch):
        super().__init__(session)
        self._name, self._watch = name, watch

    def around(self, call: BoundCall, bound: Arrays, rest: Arrays) -> Outputs:
        began = time.perf_counter()
        outputs = call(**rest)
        rows = len(next(iter(rest.values())))
        self._watch.seconds[self._name, rows].append(time.perf_counter() - began)
        return outputs
