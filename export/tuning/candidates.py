"""What `x2i tune` tries: ways through a plan with fewer or cheaper calls, in the field's usual ranges."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import product

from x2i.runtime.plan import Plan
from x2i.runtime.preset import Preset
from x2i.runtime.slots import sides_of

FEW_STEPS = "dpmpp_2m_karras"
"""The sampler that needs the fewest steps of those that any trained model takes; LCM's needs a model made for it."""
SHARES = (1.0, 0.6, 0.4, 0.3, 0.2)
"""Of the plain loop's steps."""
EVERY, DEPTHS = (1, 2, 3, 5), (1, 2)
GUIDED_UNTIL = (0.25, 0.4)
"""Shares of the schedule, from its quiet end, without guidance."""
FROZEN_FROM = (0.4, 0.6)
LEAST_STEPS = 4
THINNED = 2
WAYS = ("steps", "caching", "guidance", "freezing", "thinning")
"""What a preset may change: sampler and steps, how many calls are whole, where there is guidance, whether the
cross-attention is frozen, and the keys and values of the largest self-attention."""


def candidates(
    plan: Plan, steps: int, depths: tuple[int, ...] = DEPTHS, ways: Collection[str] = WAYS
) -> Iterator[Preset]:
    """Every combination of these ways but the plain loop itself, whose steps are `steps`; thinned ones come last."""
    for thinned in (1, THINNED) if "thinning" in ways else (1,):
        for preset in _unthinned(plan, steps, depths):
            if _changed(preset, plan, steps) <= set(ways) and (thinned > 1 or _changed(preset, plan, steps)):
                yield replace(preset, thinned=thinned)


def _unthinned(plan: Plan, steps: int, depths: tuple[int, ...]) -> Iterator[Preset]:
    train = float(plan.schedule.train_steps)
    cheaper: list[tuple[float | None, float | None]] = [(None, None)]
    if sides_of(plan.guidance.scale) > 1:
        cheaper += [(share * train, None) for share in GUIDED_UNTIL]
    cheaper += [(None, share * train) for share in FROZEN_FROM]
    reuses = [(1, 1), *product(EVERY[1:], depths)]
    for (sampler, number), (every, depth), (until, frozen) in product(_samplers(plan, steps), reuses, cheaper):
        guided = None if until is None else (train, until)
        yield Preset(sampler, number, every, depth, guided, frozen)


def _changed(preset: Preset, plan: Plan, steps: int) -> set[str]:
    changes = {
        "steps": (preset.sampler, preset.steps) != (plan.sampler.name, steps),
        "caching": preset.every > 1,
        "guidance": preset.guided is not None,
        "freezing": preset.frozen_from is not None,
    }
    return {way for way, changed in changes.items() if changed}


def _samplers(plan: Plan, steps: int) -> Iterator[tuple[str, int]]:
    for name in dict.fromkeys((plan.sampler.name, FEW_STEPS)):
        for share in SHARES:
            if (number := round(share * steps)) >= LEAST_STEPS:
                yield name, number
