"""Candidates that share their graphs, so that few graphs are open at a time, and the run that times each of their
calls."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from x2i.runtime.plan import Plan
from x2i.runtime.preset import Preset

PROBE_STEPS = 12
"""Enough for every kind of call to come at least twice: the first of a kind is slow."""


@dataclass(frozen=True, slots=True)
class Family:
    """Presets that keep the same features. `probe` makes every kind of call that one of them makes."""

    members: tuple[Preset, ...]
    probe: Preset


def families(plan: Plan, found: Iterable[Preset]) -> list[Family]:
    groups: dict[tuple[str | None, bool, int], list[Preset]] = {}
    for preset in found:
        groups.setdefault((preset.feature, preset.frozen_from is not None, preset.thinned), []).append(preset)
    return [Family(tuple(members), _probe(plan, members[0])) for members in groups.values()]


def _probe(plan: Plan, member: Preset) -> Preset:
    """Guidance, or its freezing, ends half-way."""
    train = float(plan.schedule.train_steps)
    every = 3 if member.every > 1 else 1
    calls = Preset(steps=PROBE_STEPS, every=every, depth=member.depth, thinned=member.thinned)
    if member.frozen_from is not None:
        return replace(calls, frozen_from=train / 2)
    return replace(calls, guided=(train, train / 2))
