"""Looks for the fastest preset that keeps to the plain loop's pictures: calls are timed once, runs are
predicted, the best are drawn."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from x2i.runtime.bundle.preset import Preset
from x2i.runtime.bundle.reader import Bundle
from x2i.runtime.commands.plan_text import preset_differences
from x2i.runtime.commands.progress import track
from x2i.runtime.errors import InputError
from x2i.runtime.gate.cases import Draw, Drawing
from x2i.runtime.gate.comparison import closeness_of
from x2i.runtime.gate.record import Closeness, Judged
from x2i.runtime.pipeline import Pipeline
from x2i.runtime.sessions.backends import open_session
from x2i.runtime.sessions.session import Session, Settings

from ..judge import Scorer
from ..reuse.checked_variants import with_presets
from .candidates import PresetFamily, Tuning
from .graph_calls import Stopwatch, calls_of


@dataclass(frozen=True, slots=True)
class Verdict:
    """How close a preset came: run by run as far as it was drawn, what the judge said, and `problem`, in one line."""

    measured: tuple[Closeness, ...] = ()
    judged: Judged | None = None
    problem: str | None = None


class Trial:
    """Compares with `plain`, which draws as the bundle does without a preset; `runs` are options of runs, `quality` is
    the PSNR (dB) that every picture must have, `score` is a judge's, which allows what it allows."""

    def __init__(self, plain: Draw, runs: Sequence[dict[str, Any]], quality: float, score: Scorer | None = None):
        self._runs, self._quality, self._score = runs, quality, score
        self._references = [_drawn(plain, run) for run in runs]

    def first(self, draw: Draw) -> None:
        """Draws the first run, and compares nothing."""
        _drawn(draw, self._runs[0])

    def __call__(self, draw: Draw, thorough: bool = False) -> Verdict:
        """Ends at the first picture below the PSNR; if `thorough`, draws every run and always consults the judge."""
        found: list[Closeness] = []
        problem: str | None = None
        for run, reference in zip(self._runs, self._references, strict=True):
            try:
                found.append(closeness_of(_drawn(draw, run), reference))
            except InputError as error:
                return Verdict(tuple(found), None, error.problems[0])
            signal = found[-1].psnr
            if signal is not None and not signal >= self._quality:
                problem = problem or f"PSNR {signal:.1f} dB, at least {self._quality:.1f} dB are asked"
                if not thorough:
                    break
        if (problem and not thorough) or self._score is None:
            return Verdict(tuple(found), None, problem)
        judged = self._score(draw)
        if not judged.passed:
            lost = f"the judge loses {judged.lost:.1f} points, at most {judged.within:.1f} are allowed"
            problem = problem or lost
        return Verdict(tuple(found), judged, problem)


def _drawn(draw: Draw, options: dict[str, Any]) -> Drawing:
    output = draw(**options)
    return Drawing(output.latents, np.asarray(output.images[0]))


Report = Callable[[str], None]
PROBE = "probe"


@dataclass(frozen=True, slots=True)
class Found:
    """The fastest that passed, and the seconds predicted for its calls of the denoiser."""

    preset: Preset
    seconds: float


def search(
    work: Bundle, groups: Iterable[PresetFamily], trial: Trial, tuning: Tuning, backend: str, report: Report
) -> Preset | None:
    """The fastest passing preset of all families, None where none passes."""
    best: Found | None = None
    for family in track(groups, "families", unit="family"):
        best = _fastest(work, family, trial, tuning, backend, best, report) or best
    return None if best is None else best.preset


def _fastest(
    work: Bundle, family: PresetFamily, trial: Trial, tuning: Tuning, backend: str, best: Found | None, report: Report
) -> Found | None:
    """The fastest of a family that passes and is faster than `best`."""
    plan, watch = work.manifest.plan, Stopwatch()
    members = {str(number): preset for number, preset in enumerate(family.members)}
    bundle = with_presets(work, members | {PROBE: family.probe})

    def opened(name: str) -> Session:
        return watch.wrap(name, open_session(backend, bundle.graph_file(name), Settings(tuning.threads)))

    pipeline = Pipeline(bundle, opened, backend=backend, preset=PROBE)
    trial.first(pipeline)
    predicted = {}
    for name, preset in members.items():
        calls = calls_of(plan, preset, tuning.steps)
        if not watch.seen(calls):
            # Of experts the probe may guide one alone, and leave the other unguided.
            trial.first(partial(pipeline, preset=name))
        predicted[name] = sum(watch.best(call) * times for call, times in calls.items())
    for name in track(sorted(predicted, key=predicted.__getitem__), "presets", unit="preset"):
        if best is not None and predicted[name] >= best.seconds:
            return None
        verdict = trial(partial(pipeline, preset=name))
        outcome = verdict.problem or "passed"
        report(f"{', '.join(preset_differences(members[name]))}: {predicted[name]:.2f} s in the denoiser, {outcome}")
        if verdict.problem is None:
            return Found(members[name], predicted[name])
    return None
