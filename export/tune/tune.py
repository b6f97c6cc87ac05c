"""Finds a preset for a bundle on this device, measures it, and writes it into the bundle."""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from x2i.runtime.bundle.preset import Preset, Tuned
from x2i.runtime.bundle.reader import Bundle, open_bundle
from x2i.runtime.bundle.writer import check_writable
from x2i.runtime.commands.progress import track
from x2i.runtime.load import load, pipeline_of
from x2i.runtime.machine import processor, versions
from x2i.runtime.sessions.session import Settings

from ..errors import GateError, PlanError
from ..gate_cases import default_cases, start_noise
from ..judge import Judge, find_judge
from ..reuse.checked_variants import with_presets
from ..reuse.kv_downsample import can_downsample_kv
from .candidates import Tuning, candidates, preset_families
from .publish import bundle_copy, publish
from .search import Report, Trial, search

PACKAGES = ("onnxruntime", "openvino", "tensorrt-rtx", "tensorrt")
WARM_STEPS = 4
COMPARED = 4
"""How many of a judge's runs are compared picture by picture."""


def tune(folder: Path, tuning: Tuning, report: Report = lambda line: None) -> Preset:
    """Adds the fastest preset that passes to the bundle `folder`, with the graphs it needs; returns it.

    Raises PlanError for options that do not fit, InputError for a damaged bundle, GateError where no preset passes;
    then the bundle is as it was.
    """
    tuning = tuning.filled()
    if problems := tuning.problems():
        raise PlanError(*problems)
    bundle = open_bundle(folder)
    if not bundle.manifest.plan.walks_latents:
        raise PlanError(
            f"{folder}: expected a bundle that walks latents, whose calls can be made with less, got one that walks "
            "tokens; draw in fewer --steps instead"
        )
    check_writable(bundle.folder)
    judge = None if tuning.judge is None else find_judge(tuning.judge)
    runs = _runs(bundle, tuning, judge)
    plan = bundle.manifest.plan
    steps = tuning.steps or plan.latents.sampler.steps
    with bundle_copy(bundle) as work:
        pipeline = load(folder, tuning.backend, tuning.threads)
        backend, plain = pipeline.backend, partial(pipeline, steps=steps)
        report(f"on {backend}; the plain loop: {plan.latents.sampler.name}, {steps} steps")
        score = None if judge is None else judge.against(bundle.manifest, plain)
        trial = Trial(plain, runs, tuning.least_psnr, score)
        # Its graphs are those of no preset: they make room.
        del pipeline, plain
        preset = _like(tuning)
        if preset is None:
            groups = preset_families(plan, candidates(plan, steps, ways=_ways(bundle, tuning)))
            preset = search(work, groups, trial, tuning, backend, report)
        if preset is None:
            raise GateError(
                f"no preset keeps within {tuning.least_psnr:g} dB of the plain loop; ask for less (--quality), "
                "or for more steps in the plain loop (--steps)"
            )
        tuned = _measured(work, preset, trial, tuning, backend, steps, runs[0], report)
        return publish(bundle, with_presets(work, {tuning.name: tuned}), tuning.name)


def _ways(bundle: Bundle, tuning: Tuning) -> list[str]:
    """Those asked for that the denoisers have: not every U-Net has self-attention as large as the latents."""
    denoisers = set(bundle.manifest.plan.denoisers())
    thinned = "thinning" in tuning.ways and all(can_downsample_kv(bundle.graph_file(graph).path) for graph in denoisers)
    return [way for way in tuning.ways if way != "thinning" or thinned]


def _runs(bundle: Bundle, tuning: Tuning, judge: Judge | None) -> list[dict[str, Any]]:
    """Options of the runs that are compared, each with its start noise, and without a number of steps."""
    if judge is None:
        found = default_cases(bundle.manifest, None, tuning.size)
    else:
        known = judge.runs(bundle.manifest)
        noise = partial(start_noise, bundle.manifest.plan, size=tuning.size)
        found = [run | {"noise": noise(run["seed"])} for run in known[:: max(1, len(known) // COMPARED)]]
    return [{name: value for name, value in run.items() if name != "steps"} for run in found]


def _like(tuning: Tuning) -> Preset | None:
    """Another bundle's preset without what was measured there; raises PlanError where it has none of that name."""
    if tuning.like is None:
        return None
    folder, name = tuning.like
    presets = open_bundle(folder, check_files=False).manifest.plan.presets
    if name not in presets:
        raise PlanError(f"--like: expected a preset of {folder} ({', '.join(presets) or 'it has none'}), got {name!r}")
    return replace(presets[name], tuned=None)


def _measured(
    work: Bundle,
    preset: Preset,
    trial: Trial,
    tuning: Tuning,
    backend: str,
    steps: int,
    run: dict[str, Any],
    report: Report,
) -> Preset:
    """The preset with its record; raises GateError past the limits, unless they are accepted."""
    bundle = with_presets(work, {tuning.name: preset})
    pipeline = pipeline_of(bundle, backend, Settings(tuning.threads), preset=tuning.name)
    verdict = trial(pipeline, thorough=True)
    if verdict.problem is not None:
        if not tuning.accept:
            raise GateError(f"{tuning.name}: {verdict.problem}; nothing was written; accept it, or tune anew")
        report(f"accepted: {verdict.problem}")
    seconds, plain = _timed(pipeline, partial(pipeline, steps=steps, preset=None), run, tuning.runs)
    if seconds >= plain:
        slower = f"{seconds:.2f} s a run, the plain loop takes {plain:.2f} s"
        if not tuning.accept:
            raise GateError(f"{tuning.name}: {slower}; nothing was written; accept it, or allow more ways and steps")
        report(f"accepted: {slower}")
    delay = work.manifest.plan.delay
    return replace(
        preset,
        delay=None if delay is None else min(1.0, delay.last_call(steps) / steps),
        tuned=Tuned(
            seconds,
            plain,
            f"{work.manifest.plan.latents.sampler.name}, {steps} steps",
            f"{backend}, {processor()}, {versions(PACKAGES)}",
            verdict.measured,
            verdict.judged,
        ),
    )


def _timed(fast: Callable[..., Any], plain: Callable[..., Any], run: dict[str, Any], times: int) -> tuple[float, float]:
    """Median seconds of whole runs of either, in turns, after one of the plain loop that is not timed: the graphs of
    all its segments are opened there."""
    plain(**run | {"steps": WARM_STEPS})
    taken: dict[str, list[float]] = {"fast": [], "plain": []}
    for _ in track(range(times), "timing", unit="run"):
        for name, draw in (("plain", plain), ("fast", fast)):
            began = time.perf_counter()
            draw(**run)
            taken[name].append(time.perf_counter() - began)
    return statistics.median(taken["fast"]), statistics.median(taken["plain"])
