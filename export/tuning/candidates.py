"""What `x2i tune` tries: ways through a plan with fewer or cheaper calls, in the field's usual ranges."""

from collections.abc import Iterator
from itertools import product

from x2i.runtime.plan import Plan
from x2i.runtime.preset import Preset

FEW_STEPS = "dpmpp_2m_karras"
"""The sampler that needs the fewest steps of those that any trained model takes; LCM's needs a model made for it."""
SHARES = (1.0, 0.6, 0.4, 0.3, 0.2)
"""Of the plain loop's steps."""
EVERY, DEPTHS = (1, 2, 3, 5), (1, 2)
GUIDED_UNTIL = (0.25, 0.4)
"""Shares of the schedule, from its quiet end, without guidance."""
FROZEN_FROM = (0.4, 0.6)
LEAST_STEPS = 4


def candidates(plan: Plan, steps: int, depths: tuple[int, ...] = DEPTHS) -> Iterator[Preset]:
    """Every combination but the plain loop itself; `steps` are the plain loop's."""
    train = float(plan.schedule.train_steps)
    cheaper: list[tuple[float | None, float | None]] = [(None, None)]
    cheaper += [(share * train, None) for share in GUIDED_UNTIL]
    cheaper += [(None, share * train) for share in FROZEN_FROM]
    reuses = [(1, 1), *product(EVERY[1:], depths)]
    for (sampler, number), (every, depth), (until, frozen) in product(_samplers(plan, steps), reuses, cheaper):
        guided = None if until is None else (train, until)
        found = Preset(sampler, number, every, depth, guided, frozen)
        if found != Preset(plan.sampler.name, steps):
            yield found


def _samplers(plan: Plan, steps: int) -> Iterator[tuple[str, int]]:
    for name in dict.fromkeys((plan.sampler.name, FEW_STEPS)):
        for share in SHARES:
            if (number := round(share * steps)) >= LEAST_STEPS:
                yield name, number
