"""How often a run calls which graph: the loop walked without drawing anything."""

from collections import Counter

import numpy as np
from x2i.runtime.plan import Plan
from x2i.runtime.preset import Preset
from x2i.runtime.reuse import Reuse
from x2i.runtime.samplers import make_sampler

Call = tuple[str, int]
"""A graph, and the rows of the guidance that it is called with."""


def calls_of(plan: Plan, preset: Preset, sides: int, steps: int | None = None) -> Counter[Call]:
    """The calls of one run by graph and rows; `steps` are the plan's where neither it nor the preset says.

    Of a delayed segment its own delay is assumed.
    """
    steps = preset.steps or steps or plan.sampler.steps
    name = preset.sampler or plan.sampler.name
    walk = make_sampler(plan.sampler.aliases.get(name, name), plan.schedule, steps)
    last_plain_call = -1.0 if plan.delay is None else plan.delay.last_call(steps, share=preset.delay)
    reuse, made = Reuse(preset, sides, len(plan.segments) - 1), Counter[Call]()

    def noted(latents: np.ndarray, timestep: float) -> np.ndarray:
        delayed = made.total() <= last_plain_call
        number = plan.segment_at(timestep, delayed)
        way = reuse.next(number, timestep)
        made[way.variant(plan.segments[number].graph).name, way.sides] += 1
        return np.zeros_like(latents)

    nothing = np.zeros((1, plan.decoder.channels, 1, 1), np.float32)
    for _ in walk.run(nothing, noted, lambda: nothing):
        pass
    return made
