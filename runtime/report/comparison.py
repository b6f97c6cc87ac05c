"""Profiles side by side: bundles, backends, or machines."""

from collections.abc import Iterator, Sequence

from ..errors import InputError
from ..profiling.record import Profile, RunSettings, loop_seconds
from . import table
from .table import Row, columns, machine_line

SAME = ("steps", "size", "count")


def check_comparable(profiles: Sequence[Profile]) -> None:
    """Raises InputError, with a line for each thing that must be the same and is not, where a ratio would say nothing
    of bundle, backend or machine."""
    problems = []
    for name in SAME:
        found = [_setting_text(profile.asked, name) for profile in profiles]
        if len({*found}) > 1:
            text = ", ".join(f"{got} in {profile.title}" for got, profile in zip(found, profiles, strict=True))
            problems.append(f"{name}: expected the same in all profiles, got {text}; measure both with one --{name}")
    guided = [profile.asked.guidance != 1 for profile in profiles]
    if len({*guided}) > 1:
        problems.append("guidance: expected on or off in all profiles, got both; measure both with one --guidance")
    if problems:
        raise InputError(*problems)


def comparison_lines(profiles: Sequence[Profile]) -> list[str]:
    """A column for each; ratios are seconds of the first over seconds of the other: above 1 the other is faster."""
    letters = [_letter(number) for number in range(len(profiles))]
    rows: list[Row] = [("", *letters, *(f"A/{letter}" for letter in letters[1:]))]
    for name, values in measured(profiles):
        shown = [_value_text(name, value) for value in values]
        ratios = [f"{values[0] / value:.2f}x" if values[0] and value else "-" for value in values[1:]]
        rows.append((name, *shown, *ratios))
    legend = [f"{_letter(i)}: {p.title}, {', '.join(p.precision)}; {machine_line(p)}" for i, p in enumerate(profiles)]
    return [*legend, "", *columns(rows)]


def measured(profiles: Sequence[Profile]) -> Iterator[tuple[str, list[float | None]]]:
    """What is compared, by name: seconds, and bytes where the name says memory."""
    yield "cold start", [p.cold.seconds.p50 for p in profiles]
    yield "load", [sum(p.load.values()) for p in profiles]
    yield "picture, p50", [p.picture.p50 for p in profiles]
    yield "picture, p95", [p.picture.p95 for p in profiles]
    for phase in profiles[0].phases:
        yield phase, [p.phases[phase].p50 if phase in p.phases else None for p in profiles]
    yield "step, p50", [p.all_steps.p50 for p in profiles]
    yield "step, p95", [p.all_steps.p95 for p in profiles]
    yield "loop itself", [loop_seconds(p)[0] for p in profiles]
    names = dict.fromkeys(stage.name for p in profiles for stage in p.stages)
    for name in names:
        found = [next((s.seconds.p50 for s in p.stages if s.name == name), None) for p in profiles]
        yield f"  {name}", found
    yield "peak memory", [p.cold.peak for p in profiles]


def _letter(number: int) -> str:
    return chr(ord("A") + number)


def _setting_text(settings: RunSettings, name: str) -> str:
    value = getattr(settings, name)
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _value_text(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return table.megabytes_text(value) if "memory" in name else table.seconds_text(value)
