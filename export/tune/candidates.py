"""The options of `x2i tune`, the presets that it tries, in the field's usual ranges, and which share graphs."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from x2i.runtime.bundle.plan import Plan
from x2i.runtime.bundle.preset import Preset

from ..judge import judge_problems

FEW_STEPS = "dpmpp_2m_karras"
"""The sampler that needs the fewest steps of those that any trained model takes; LCM's needs a model made for it."""
STEP_SHARES = (1.0, 0.6, 0.4, 0.3, 0.2)
"""Shares of the plain loop's steps."""
CACHE_INTERVALS, CACHE_DEPTHS = (1, 2, 3, 5), (1, 2)
"""Calls of which one computes everything, and the skip connection from the end at which the others start."""
UNGUIDED_SHARES = (0.25, 0.4)
"""Shares of the schedule, at its end, without guidance."""
FROZEN_SHARES = (0.4, 0.6)
"""Shares of the schedule, at its end, with the cross-attention frozen."""
MIN_STEPS = 4
KV_DOWNSAMPLE = 2
"""Of the largest self-attention's rows and columns one of so many has keys and values."""
WAYS = ("steps", "caching", "guidance", "freezing", "thinning", "unguided", "decoder")
"""What a preset may change: sampler and steps, how many calls are whole, where there is guidance, whether the
cross-attention is frozen, the keys and values of the largest self-attention, whether there is guidance at all, and
which decoder draws, where the bundle has another for previews."""
DISTILLED_STEPS = 8
"""A bundle that draws in so few without guidance was distilled: fewer still are tried, and no other sampler."""


def candidates(
    plan: Plan, steps: int, depths: tuple[int, ...] = CACHE_DEPTHS, ways: Collection[str] = WAYS
) -> Iterator[Preset]:
    """Every combination of these ways but the plain loop itself, whose steps are `steps`; thinned ones come last."""
    decoders = (True, False) if "decoder" in ways and plan.latents.preview is not None else (False,)
    thinnings = (1, KV_DOWNSAMPLE) if "thinning" in ways else (1,)
    for thinned, preset, tiny in product(thinnings, list(_unthinned(plan, steps, depths)), decoders):
        changed = _changed(preset, plan, steps)
        if changed <= set(ways) and (thinned > 1 or tiny or changed):
            yield replace(preset, kv_downsample=thinned, preview_decoder=tiny)


def _unthinned(plan: Plan, steps: int, depths: tuple[int, ...]) -> Iterator[Preset]:
    train = float(plan.latents.schedule.train_steps)
    cheaper = [Preset()]
    if plan.main.guidance.rows(plan.main.guidance.scale) > 1:
        cheaper += [Preset(guidance_interval=(train, share * train)) for share in UNGUIDED_SHARES]
        cheaper.append(Preset(guidance=1.0))
    cheaper += [Preset(tgate_from=share * train) for share in FROZEN_SHARES]
    reuses = [(1, 1), *product(CACHE_INTERVALS[1:], depths)]
    for (sampler, number), (every, depth), preset in product(_samplers(plan, steps), reuses, cheaper):
        yield replace(preset, sampler=sampler, steps=number, cache_interval=every, cache_depth=depth)


def _changed(preset: Preset, plan: Plan, steps: int) -> set[str]:
    changes = {
        "steps": (preset.sampler, preset.steps) != (plan.latents.sampler.name, steps),
        "caching": preset.cache_interval > 1,
        "guidance": preset.guidance_interval is not None,
        "freezing": preset.tgate_from is not None,
        "unguided": preset.guidance is not None,
    }
    return {way for way, changed in changes.items() if changed}


def _samplers(plan: Plan, steps: int) -> Iterator[tuple[str, int]]:
    if is_distilled(plan):
        yield from ((plan.latents.sampler.name, number) for number in range(steps, 0, -1))
        return
    for name in dict.fromkeys((plan.latents.sampler.name, FEW_STEPS)):
        for share in STEP_SHARES:
            if (number := round(share * steps)) >= MIN_STEPS:
                yield name, number


def is_distilled(plan: Plan) -> bool:
    """Whether a bundle draws in few steps without guidance."""
    guidance = plan.main.guidance
    return plan.main.steps <= DISTILLED_STEPS and guidance.rows(guidance.scale) == 1


PROBE_STEPS = 12
"""Enough for every kind of call to come at least twice: the first of a kind is slow."""


@dataclass(frozen=True, slots=True)
class PresetFamily:
    """Presets that keep the same features. `probe` makes every kind of call that one of them makes."""

    members: tuple[Preset, ...]
    probe: Preset


def preset_families(plan: Plan, found: Iterable[Preset]) -> list[PresetFamily]:
    """The presets by the graphs that they need, in the order of their first; calls of one family are timed at once."""
    groups: dict[tuple[str | None, bool, int], list[Preset]] = {}
    for preset in found:
        groups.setdefault((preset.feature, preset.tgate_from is not None, preset.kv_downsample), []).append(preset)
    return [PresetFamily(tuple(members), _probe(plan, members[0])) for members in groups.values()]


def _probe(plan: Plan, member: Preset) -> Preset:
    """Guidance, or its freezing, ends half-way."""
    train = float(plan.latents.schedule.train_steps)
    every = 3 if member.cache_interval > 1 else 1
    cached = Preset(steps=PROBE_STEPS, cache_interval=every, cache_depth=member.cache_depth)
    calls = replace(cached, kv_downsample=member.kv_downsample)
    if member.tgate_from is not None:
        return replace(calls, tgate_from=train / 2)
    return replace(calls, guidance_interval=(train, train / 2))


QUALITY_DB = 25.0
"""PSNR in dB: what differs is hard to see side by side, and another prompt or seed is far below it."""
INSTANT, INSTANT_QUALITY_DB, INSTANT_WAYS = "instant", 15.0, ("steps", "unguided", "decoder")
"""The preset for a picture as soon as may be: another picture of the same thing will do, and no graph is added."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """How to look for a preset `name`, and what it must keep to.

    Every compared picture must come within `quality` (PSNR, dB) of the plain loop's from the same noise, and the
    `judge`, where one is named, must name as many drawings within 2 points. The plain loop has `steps` (the plan's
    unless given) and the plan's sampler. Presets differ from it in no other `ways`. With `like`, a bundle and its
    preset's name, that preset is measured and no other is tried. `runs` are timed of each loop, in turns. `accept`
    goes on past the limits; the preset tells.
    """

    name: str = "fast"
    quality: float | None = None
    steps: int | None = None
    size: tuple[int, int] | None = None
    backend: str | None = None
    threads: int | None = None
    judge: str | None = None
    ways: tuple[str, ...] = ()
    like: tuple[Path, str] | None = None
    runs: int = 3
    accept: bool = False

    def filled(self) -> "Tuning":
        """The same with the usual quality and ways where none are named: those of `instant` are its own."""
        quality, ways = (INSTANT_QUALITY_DB, INSTANT_WAYS) if self.name == INSTANT else (QUALITY_DB, WAYS)
        return replace(self, quality=quality if self.quality is None else self.quality, ways=self.ways or ways)

    @property
    def least_psnr(self) -> float:
        """`quality` as it is filled in."""
        assert self.quality is not None, "a tuning that was not filled in"
        return self.quality

    def problems(self) -> list[str]:
        """One line for each, as far as they can be told without the bundle."""
        found = []
        if not self.name or not self.name.replace("-", "").replace("_", "").isalnum():
            found.append(f"--name: expected letters, digits, - and _, got {self.name!r}")
        if self.quality is not None and not 0 < self.quality < 100:
            found.append(f"--quality: expected a PSNR in dB between 0 and 100, got {self.quality:g}")
        if unknown := [way for way in self.ways if way not in WAYS]:
            found.append(f"--way: expected {', '.join(WAYS)}, got {', '.join(unknown)}")
        if self.runs < 1:
            found.append(f"--runs: expected 1 or more, got {self.runs}")
        return found + judge_problems(self.judge)
