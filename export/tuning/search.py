"""Looks for the fastest preset that keeps to the plain loop's pictures: calls are timed once, runs are predicted from
them, and drawn from the fastest on until one passes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from x2i.runtime.bundle import Bundle
from x2i.runtime.commands.preset_lines import differences
from x2i.runtime.pipeline import Pipeline
from x2i.runtime.preset import Preset
from x2i.runtime.sessions.backends import open_session
from x2i.runtime.sessions.session import Session
from x2i.runtime.slots import sides_of

from .counts import calls_of
from .families import Family
from .stopwatch import Stopwatch
from .trial import Trial
from .tuning import Tuning
from .variants import with_presets

Report = Callable[[str], None]
PROBE = "probe"


@dataclass(frozen=True, slots=True)
class Found:
    """The fastest that passed, and the seconds predicted for its calls of the denoiser."""

    preset: Preset
    seconds: float


def search(
    work: Bundle, groups: Iterable[Family], trial: Trial, tuning: Tuning, backend: str, report: Report
) -> Preset | None:
    """The fastest passing preset of all families, None where none passes."""
    best: Found | None = None
    for family in groups:
        best = _fastest(work, family, trial, tuning, backend, best, report) or best
    return None if best is None else best.preset


def _fastest(
    work: Bundle, family: Family, trial: Trial, tuning: Tuning, backend: str, best: Found | None, report: Report
) -> Found | None:
    """The fastest of a family that passes and is faster than `best`."""
    plan, watch = work.manifest.plan, Stopwatch()
    sides = sides_of(plan.guidance.scale)
    named = {str(number): preset for number, preset in enumerate(family.members)} | {PROBE: family.probe}
    bundle = with_presets(work, named)

    def opened(name: str) -> Session:
        return watch.watched(name, open_session(backend, bundle.graph_file(name), tuning.threads))

    pipeline = Pipeline(bundle, opened, backend=backend, preset=PROBE)
    trial.first(pipeline)
    predicted = {
        name: sum(watch.best(call) * times for call, times in calls_of(plan, preset, sides, tuning.steps).items())
        for name, preset in named.items()
        if name != PROBE
    }
    for name in sorted(predicted, key=lambda name: predicted[name]):
        if best is not None and predicted[name] >= best.seconds:
            return None
        verdict = trial(partial(pipeline, preset=name))
        told = verdict.problem or "passed"
        report(f"{', '.join(differences(named[name]))}: {predicted[name]:.2f} s in the denoiser, {told}")
        if verdict.problem is None:
            return Found(named[name], predicted[name])
    return None
