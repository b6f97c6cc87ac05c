"""A plan, its presets and the gate's results in words."""

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from ..bundle.calls import matches
from ..bundle.plan import Conditioner, Plan, Process
from ..bundle.preset import Preset, Tuned
from ..gate.comparison import CaseResult
from ..gate.record import Case, Closeness, Limits
from ..processes.segment import Segment, segment_at
from ..processes.tokens import TokensProcess


def limits_line(limits: Limits, plan: Plan) -> str:
    """The gate's limits in one line: of the state that the plan's main process walks, and of the picture."""
    state = f"latents within {limits.latents:.2%}" if plan.walks_latents else f"tokens from {limits.tokens:.2%}"
    return f"drawings against fp32's: {state}, PSNR from {limits.psnr:.1f} dB, SSIM from {limits.ssim:.3f}"


def case_lines(result: CaseResult) -> list[str]:
    """One line, and one for every problem."""
    verdict = "ok" if result.passed else "FAILED"
    measured = "not drawn" if result.closeness is None else closeness_text(result.closeness)
    problems = [f"        {problem}" for problem in result.problems]
    return [f"{verdict}  case {result.number}, {_case_text(result.case)}: {measured}", *problems]


def closeness_text(closeness: Closeness) -> str:
    """How close a run came, in one line."""
    signal = "the same picture" if closeness.psnr is None else f"PSNR {closeness.psnr:.1f} dB"
    parts = [] if closeness.latents is None else [f"latents {closeness.latents:.2%}"]
    parts += [] if closeness.tokens is None else [f"tokens {closeness.tokens:.2%}"]
    return ", ".join([*parts, *([] if closeness.ssim is None else [signal, f"SSIM {closeness.ssim:.3f}"])])


def case_json(result: CaseResult) -> dict[str, Any]:
    """`psnr` is null for the same picture, and all three are where nothing was drawn."""
    measured = {} if result.closeness is None else asdict(result.closeness)
    figures = {name: finite(measured.get(name)) for name in ("latents", "psnr", "ssim", "tokens")}
    case = result.case
    run = {"prompt": case.prompt, "language": case.options.get("language"), "seed": case.options.get("seed", 0)}
    return {"number": result.number, **run, **figures, "problems": list(result.problems)}


def finite(value: float | None) -> float | None:
    """None for what JSON has no number for."""
    return value if value is not None and math.isfinite(value) else None


def _case_text(case: Case) -> str:
    parts = [case.options.get("language"), None if case.prompt is None else repr(case.prompt)]
    return ", ".join([*(part for part in parts if part), f"seed {case.options.get('seed', 0)}"])


def preset_lines(name: str, preset: Preset) -> list[str]:
    """One line of what the preset does, and one of what it gained and cost."""
    lines = [f"preset {name}: {', '.join(preset_differences(preset)) or 'the plain loop'}"]
    return lines + ([] if preset.tuned is None else [f"  {line}" for line in _tuned_lines(preset.tuned)])


def preset_differences(preset: Preset) -> Iterator[str]:
    """What a preset does otherwise than the plain loop, a phrase each."""
    if preset.sampler is not None or preset.steps is not None:
        yield " ".join(filter(None, [preset.sampler, f"{preset.steps} steps" if preset.steps else ""]))
    if preset.cache_interval > 1:
        yield f"one call of {preset.cache_interval} in full, the others from skip connection {preset.cache_depth} on"
    if preset.guidance_interval is not None:
        yield f"guidance from timestep {preset.guidance_interval[0]:g} to {preset.guidance_interval[1]:g}"
    if preset.guidance is not None:
        yield "no guidance" if preset.guidance == 1 else f"guidance {preset.guidance:g}"
    if preset.preview_decoder:
        yield "decoded as previews are"
    if preset.tgate_from is not None:
        yield f"cross-attention frozen and no guidance from timestep {preset.tgate_from:g} on"
    if preset.kv_downsample > 1:
        yield f"keys and values of every {preset.kv_downsample}. row and column in the largest self-attention"
    if preset.delay is not None:
        yield f"the subjects from {preset.delay:.0%} of the run on"


def _tuned_lines(tuned: Tuned) -> Iterator[str]:
    yield (
        f"{tuned.seconds:.2f} s a run, {tuned.plain_seconds:.2f} s in {tuned.plain} "
        f"({tuned.plain_seconds / tuned.seconds:.1f}x), on {tuned.where}"
    )
    for number, closeness in enumerate(tuned.measured):
        yield f"run {number}: {closeness_text(closeness)}"
    if tuned.judged is not None:
        yield f"judge: {tuned.judged.lost:.1f} points lost over {tuned.judged.drawings} drawings"


def plan_lines(plan: Plan, graphs: set[str]) -> list[str]:
    """One line for each input, graph call, segment and choice, in the order of a run."""
    lines = ["plan, once a picture"]
    for conditioner in plan.conditioners_before(0):
        lines += _conditioner_lines(conditioner, graphs)
    if plan.injection is not None:
        lines.append(f"  {plan.injection.describe()} -> {', '.join(plan.injection.slots())}")
    for number, process in enumerate(plan.processes):
        waiting = plan.conditioners_before(number) if number else ()
        lines += ["plan, then once a picture"] if waiting else []
        lines += [line for conditioner in waiting for line in _conditioner_lines(conditioner, graphs)]
        lines += _process_lines(process)
    if plan.paint is not None:
        lines.append(f"  {plan.paint.describe()}")
    return lines + [line for name, preset in plan.presets.items() for line in preset_lines(name, preset)]


def _process_lines(process: Process) -> list[str]:
    """What is done at every step, and with the last state."""
    sampler, scale = process.sampler.describe(), process.guidance.scale
    lines = [f"plan, at every step: {sampler}, {process.steps} steps, guidance {scale:g}"]
    lines += [] if process.stage is None else [f"  set by {process.stage.describe()}"]
    several = any(segment.delay is not None for segment in process.segments)
    served = _served_steps(process)
    for number, segment in enumerate(process.segments):
        lines += _segment_lines(segment, several, process.steps, served.get(number, ""))
    if process.writes is not None:
        lines.append(f"  its last state -> {process.writes}")
    tail = process.tail_lines() if process.writes is None or process.tail_graphs() else []
    return [*lines, *(["plan, at the end"] if tail else []), *(f"  {line}" for line in tail)]


def _conditioner_lines(conditioner: Conditioner, graphs: set[str]) -> list[str]:
    lines = [
        f"  {each.describe()}" + (f" -> {', '.join(each.slots())}" if each.slots() else "")
        for each in conditioner.inputs
    ]
    for stage in conditioner.stages:
        lines.append(f"  {', '.join(stage.inputs.values())} -> {stage.graph} -> {', '.join(stage.outputs.values())}")
        if "{" in stage.graph:
            lines.append(f"    one of: {', '.join(matches(stage.graph, graphs))}")
    return lines


def _served_steps(process: Process) -> dict[int, str]:
    """The steps that each of several segments serves, in words, by its number; a delay counts calls instead."""
    segments = process.segments
    if isinstance(process, TokensProcess) or len(segments) == 1 or any(each.delay is not None for each in segments):
        return {}
    timesteps = process.sampler.make(process.schedule).timesteps
    found = {}
    for number in range(len(segments)):
        own = [step for step, time in enumerate(timesteps, 1) if segment_at(segments, time, delayed=False) == number]
        some = f"steps {own[0]} to {own[-1]}" if len(own) > 1 else f"step {own[0]}" if own else "no step"
        found[number] = f"{some} of {len(timesteps)}, "
    return found


def _segment_lines(segment: Segment, several: bool, steps: int, served: str) -> list[str]:
    """When the segment is in charge, by the bundle's own defaults, and what it reads."""
    when = f"{served}{'below' if segment.below else 'from'} timestep {segment.from_timestep:g}"
    if several and segment.delay is None:
        when += ", UNet call 0 and on"
    lines = [f"  {when}: {segment.graph}, reading {', '.join(segment.context.values())}"]
    if segment.delay is not None:
        start = segment.delay.last_call(steps, None, None)
        lines = [
            f"  {when}, UNet call {start + 1:g} and on: {segment.graph}, reading {', '.join(segment.context.values())}",
            "    or as start_merge_step says (the last call before), or alpha ((1 - alpha) * steps is the last before)",
        ]
    return lines
