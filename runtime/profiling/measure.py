"""Measures a bundle: fresh processes first, then runs that are recorded and runs that are not, in turns."""

import os
import platform
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from ..attention.choice import attention_text
from ..bundle.preset import Preset
from ..bundle.reader import Bundle, open_bundle
from ..errors import EngineWarning
from ..machine import cpu_features, cpu_model, package_versions, total_memory, usable_cores
from ..output import Output, Span
from ..pipeline import Pipeline
from ..request import usual_guidance
from ..sessions.backends import on_cpu
from .cold_start import cold_start
from .job import ProfileJob, Track, completed_options, pipelines, plain_pipeline, untracked
from .operators import operator_times
from .rates import measured_rates
from .record import REVISION, Event, Machine, Operators, Overhead, Profile, RunSettings, Samples
from .recorder import CapturedCall, Recorder, seconds_a_call
from .stages import adapter_cost, counted, second_attention, stages_of

Tell = Callable[[str], None]
LEFT_OUT = "operators were not asked for"
PACKAGES = ("x2i-edge", "numpy", "onnxruntime", "openvino", "tensorrt-rtx", "tensorrt")
"""Distributions whose versions a profile keeps."""


@dataclass(frozen=True, slots=True)
class Run:
    """One recorded run: when it began, what it gave, and its graphs' calls."""

    start: float
    output: Output
    calls: tuple[Span, ...]

    @property
    def seconds(self) -> float:
        """From the call to the picture."""
        return self.output.spans[-1].end - self.start


def measure(job: ProfileJob, tell: Tell = lambda line: None, track: Track = untracked) -> Profile:
    """Measures one bundle on one backend; `tell` is given a line before each part, and `track` shows how far it is.

    Raises InputError for what `x2i.runtime.load` and a Pipeline refuse.
    """
    machine = _this_machine()
    tell(f"{job.bundle}: {job.cold} fresh processes")
    cold, backend, notes = cold_start(job, track)
    recorder = Recorder()
    start = time.perf_counter()
    bundle = open_bundle(job.bundle)
    checked = time.perf_counter() - start
    pipeline, bare = pipelines(bundle, job, backend, recorder)
    options, stand_ins = completed_options(bundle, job.options)
    tell(f"{job.bundle} on {backend}: {job.warm_up} + {job.runs} runs, each with the recorder and without")
    runs, overhead = _runs(pipeline, bare, recorder, options, job, track)
    load = {"check files": checked} | {span.name: span.seconds for span in recorder.opened}
    tell(f"{job.bundle} on {backend}: operators, counts and this machine's rates")
    called = _captured(pipeline, recorder, options)
    session = plain_pipeline(pipeline)
    operators = Operators((), None, LEFT_OUT)
    if job.operators:
        operators = operator_times(bundle, backend, job.settings, track(called, "operators"), session)
    attention = second_attention(called, session)
    macs = counted(bundle, track(called, "products")) if job.operators else {}
    stages = stages_of(bundle, [run.calls for run in runs], called, macs)
    picture = Samples(tuple(run.seconds for run in runs))
    graphs = {one.graph for one in called}
    precision = tuple(dict.fromkeys(bundle.manifest.graphs[name].precision for name in sorted(graphs)))
    return Profile(
        bundle.folder.name or str(bundle.folder),
        bundle.manifest.system,
        precision,
        backend,
        notes,
        machine,
        _run_settings(job, options, bundle, runs[0], stand_ins, backend.startswith("openvino") and on_cpu(backend)),
        cold,
        load,
        picture,
        _phases(runs),
        stages,
        _steps(runs),
        operators,
        adapter_cost(stages, attention, picture.p50),
        measured_rates(backend, job.threads, precision),
        overhead,
        _events(runs),
        REVISION,
    )


def _runs(
    pipeline: Pipeline, bare: Pipeline, recorder: Recorder, options: dict[str, Any], job: ProfileJob, track: Track
) -> tuple[list[Run], Overhead]:
    """The recorded runs, and by what share they took longer than the others."""
    runs, ratios = [], []
    for number in track(range(job.warm_up + job.runs), "runs"):
        # Which of the two comes first changes, so that a drift of the machine falls on both.
        pair: dict[bool, float] = {}
        for watched in (True, False) if number % 2 else (False, True):
            recorder.calls.clear()
            start = time.perf_counter()
            output = _quiet(pipeline if watched else bare, options)
            pair[watched] = output.spans[-1].end - start
            if watched and number >= job.warm_up:
                runs.append(Run(start, output, tuple(recorder.calls)))
        if number >= job.warm_up:
            ratios.append(pair[True] / pair[False] - 1)
    counted = seconds_a_call() * len(runs[0].calls) / median(run.seconds for run in runs)
    return runs, Overhead(median(ratios), min(ratios), max(ratios), counted)


def _captured(pipeline: Pipeline, recorder: Recorder, options: dict[str, Any]) -> list[CapturedCall]:
    """One run's calls, those of the same graph and shapes taken together."""
    recorder.captured = []
    _quiet(pipeline, options)
    captured, recorder.captured = recorder.captured, None
    number: Counter[tuple] = Counter()
    first: dict[tuple, CapturedCall] = {}
    for one in captured:
        key = one.graph, *sorted((name, array.shape) for name, array in one.arrays.items())
        number[key] += 1
        first.setdefault(key, one)
    own = pipeline.bundle.manifest.graphs
    return [replace(one, count=number[key]) for key, one in first.items() if one.graph in own]


def _run_settings(
    job: ProfileJob,
    options: dict[str, Any],
    bundle: Bundle,
    run: Run,
    stand_ins: tuple[str, ...],
    on_openvino_cpu: bool,
) -> RunSettings:
    """The run in numbers, what was left out filled in from the plan and the preset."""
    plan = bundle.manifest.plan
    preset = plan.presets[job.preset] if job.preset is not None else Preset()
    guidance, process = options.get("guidance"), plan.process
    state = run.output.latents if run.output.tokens is None else run.output.tokens
    assert state is not None, "a run that gave no state"
    size = options.get("size") or process.canvas.size
    if state.ndim == 4:
        size = state.shape[2] * process.canvas.factor, state.shape[3] * process.canvas.factor
    return RunSettings(
        sum(span.name == "denoise" for span in run.output.spans),
        options.get("sampler") or preset.sampler or plan.main.sampler.name,
        usual_guidance(plan, preset) if guidance is None else guidance,
        (size[0], size[1]),
        len(state),
        job.threads,
        job.preset,
        job.warm_up,
        job.runs,
        stand_ins,
        attention_text(map(bundle.graph_file, bundle.manifest.graphs), job.settings) if on_openvino_cpu else "",
    )


def _quiet(pipeline: Pipeline, options: dict[str, Any]) -> Output:
    """What a run warns of was told by the first process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", EngineWarning)
        return pipeline(**options)


def _phases(runs: Sequence[Run]) -> dict[str, Samples]:
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    for run in runs:
        for name in ("encode", "denoise", "decode"):
            seconds[name].append(sum(span.seconds for span in run.output.spans if span.name == name))
    return {name: Samples(tuple(found)) for name, found in seconds.items()}


def _steps(runs: Sequence[Run]) -> tuple[Samples, ...]:
    """Each step over all runs."""
    each = [[span.seconds for span in run.output.spans if span.name == "denoise"] for run in runs]
    return tuple(Samples(tuple(step)) for step in zip(*each, strict=True))


def _events(runs: Sequence[Run]) -> tuple[Event, ...]:
    """The run in the middle."""
    run = sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]
    stages: list[Span] = []
    for span in run.output.spans:
        number = sum(other.name.startswith("step") for other in stages)
        stages.append(replace(span, name=f"step {number + 1}") if span.name == "denoise" else span)
    tracks = {"stages": stages, "graphs": run.calls}
    return tuple(
        Event(track, span.name, span.start - run.start, span.end - run.start)
        for track, spans in tracks.items()
        for span in spans
    )


def _this_machine() -> Machine:
    return Machine(
        cpu_model(),
        usable_cores(),
        cpu_features(),
        total_memory(),
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        package_versions(PACKAGES),
        os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    )
