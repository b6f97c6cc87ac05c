"""A profile as one HTML file with charts, which asks nothing of the network: the numbers of page.html."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..profiling.record import MemorySample, Operator, Profile, StageTime
from . import charts, comparison, table
from .charts import Bar, Key, Plot, Row, Tick

SERIES = 8
"""Colours of page.css; the last is a grey."""
MOST_OPERATORS = 14
FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Compared:
    """All that was measured in several profiles, a row for each profile and value."""

    rows: tuple[Row, ...]
    legend: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Article:
    """What the page shows of one profile. `tiles` are a name, a value and a note each; `stages` are the cells of a
    table; `memory` is None where the system tells none."""

    title: str
    lines: tuple[str, ...]
    tiles: tuple[tuple[str, str, str], ...]
    calls: tuple[Row, ...]
    call_ticks: tuple[Tick, ...]
    runs: int
    steps: Plot
    rates: str
    achieved: tuple[Row, ...]
    operators_text: str
    operators: tuple[Row, ...]
    graphs: tuple[Key, ...]
    memory: Plot | None
    phases: tuple[Key, ...]
    stages: tuple[tuple[str, ...], ...]
    facts: dict[str, str]


def html_page(profiles: Sequence[Profile]) -> str:
    """The whole page; several profiles are compared first."""
    # A tenth of a second to import, for which a command without --html need not wait.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        autoescape=True, loader=FileSystemLoader(FOLDER), undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html").render(
        title=" and ".join(profile.title for profile in profiles),
        compared=_compared(profiles) if len(profiles) > 1 else None,
        articles=[_article(profile) for profile in profiles],
    )


def _compared(profiles: Sequence[Profile]) -> Compared:
    rows = []
    legend = tuple(Key(f"{chr(ord('A') + i)}: {profile.title}", _series(i)) for i, profile in enumerate(profiles))
    for name, values in comparison.measured(profiles):
        most, named = max((value for value in values if value), default=0.0), False
        for i, value in enumerate(values):
            if value:
                text = table.megabytes_text(value) if "memory" in name else table.seconds_text(value)
                ratio = f" {values[0] / value:.2f}x" if i and values[0] else ""
                bar = Bar(value / most, f"{profiles[i].title}: {text}", _series(i))
                rows.append(Row("" if named else name.strip(), (bar,), text + ratio))
                named = True
    return Compared(tuple(rows), legend)


def _article(profile: Profile) -> Article:
    colours = {stage.name: _series(number) for number, stage in enumerate(profile.stages)}
    whole = max(event.end for event in profile.events)
    cold = profile.cold.phases
    return Article(
        title=profile.title,
        lines=(
            f"{profile.system}, {', '.join(profile.precision)}",
            table.machine_line(profile),
            table.settings_line(profile),
        ),
        tiles=_tiles(profile),
        calls=tuple(_calls(profile, stage, whole, colours) for stage in profile.stages),
        call_ticks=charts.x_ticks(whole, table.seconds_text),
        runs=profile.asked.runs,
        steps=_steps(profile),
        rates=", ".join(f"{kind} {table.rate_text(rate, 'OP')}" for kind, rate in profile.rates.products.items()),
        achieved=tuple(_achieved(profile, stage, colours) for stage in profile.stages),
        operators_text=_operators_text(profile),
        operators=_operators(profile.operators.found, colours),
        graphs=tuple(Key(stage.name, colours[stage.name]) for stage in profile.stages),
        memory=_memory(profile),
        phases=tuple(
            Key(f"{p.name} {table.seconds_text(p.end - p.start)}", _series(number)) for number, p in enumerate(cold)
        ),
        stages=tuple(_cells(profile, stage) for stage in profile.stages),
        facts=_facts(profile),
    )


def _tiles(profile: Profile) -> tuple[tuple[str, str, str], ...]:
    picture, steps, cold, share = profile.picture, profile.all_steps, profile.cold, profile.adapter.share
    return (
        ("one picture", table.seconds_text(picture.p50), f"p95 {table.seconds_text(picture.p95)}"),
        ("one step", table.seconds_text(steps.p50), f"p95 {table.seconds_text(steps.p95)}"),
        ("cold start", table.seconds_text(cold.seconds.p50), "process to first picture"),
        ("peak memory", table.megabytes_text(cold.peak), "mapped files included"),
        ("adapter", "-" if share is None else f"+{table.share_text(share)}", "over the plain model"),
    )


def _calls(profile: Profile, stage: StageTime, whole: float, colours: dict[str, int]) -> Row:
    """Every call of a graph in the run in the middle, along the run's seconds."""
    calls = [event for event in profile.events if event.track == "graphs" and event.name == stage.name]
    bars = tuple(
        Bar(
            (call.end - call.start) / whole,
            f"{stage.name}, call {number}: {table.seconds_text(call.end - call.start)}",
            colours[stage.name],
            call.start / whole,
        )
        for number, call in enumerate(calls, 1)
    )
    note = f"{stage.kind}, {stage.calls} call{'s' * (stage.calls > 1)}" + (", adapter" if stage.adapter else "")
    return Row(stage.name, bars, table.seconds_text(sum(call.end - call.start for call in calls)), note)


def _steps(profile: Profile) -> Plot:
    """Seconds by number of the step."""
    steps = list(enumerate(profile.steps, 1))
    most = max(len(steps) + 1.0, 2.0), 1.15 * max(step.p95 for step in profile.steps)
    low, middle, high = ([(float(number), step.percentile(p)) for number, step in steps] for p in (5, 50, 95))
    return Plot(
        (charts.area(low, high, most, 1),),
        (charts.line(middle, most, 1),),
        charts.x_ticks(most[0], lambda x: f"{x:g}" if x == int(x) and x else ""),
        charts.y_ticks(most[1], table.seconds_text),
    )


def _achieved(profile: Profile, stage: StageTime, colours: dict[str, int]) -> Row:
    """A graph's share of the machine's product rate."""
    product, copy = table.achieved(profile, stage)
    shares = table.product_shares(profile, stage)
    # The fastest type that a graph uses is the one that it could be computed in at best.
    kind = min(shares, key=lambda one: shares[one], default="")
    bar = Bar(min(1.0, shares.get(kind, 0.0)), f"{stage.name}: {product}", colours[stage.name])
    return Row(stage.name, (bar,), f"{table.share_text(shares[kind])} {kind}" if kind else "-", f"copy {copy}")


def _operators_text(profile: Profile) -> str:
    if note := table.operators_note(profile):
        return note
    text = "One run, as the backend's own profiler tells it, in calls of their own."
    overhead = profile.operators.overhead
    if overhead is None:
        return text
    than = "longer" if overhead >= 0 else "less long"
    return f"{text} These calls took {table.share_text(abs(overhead))} {than} than others."


def _operators(found: Sequence[Operator], colours: dict[str, int]) -> tuple[Row, ...]:
    """A row for each kind of operator, with a bar for each graph that has it; the largest first."""
    by_type: dict[str, list[Operator]] = {}
    for one in found:
        by_type.setdefault(one.type, []).append(one)
    sums = sorted(((sum(o.seconds for o in ones), kind) for kind, ones in by_type.items()), reverse=True)
    total = sum(seconds for seconds, _ in sums)
    if not total:
        return ()
    most = sums[0][0]
    rows = [_operator_row(kind, by_type[kind], most, total, colours) for _, kind in sums[:MOST_OPERATORS]]
    rest = sum(seconds for seconds, _ in sums[MOST_OPERATORS:])
    if rest:
        bar = Bar(rest / most, "all others", SERIES)
        rows.append(Row("all others", (bar,), table.share_text(rest / total), f"{len(sums) - MOST_OPERATORS} kinds"))
    return tuple(rows)


def _operator_row(kind: str, ones: list[Operator], most: float, total: float, colours: dict[str, int]) -> Row:
    bars, start = [], 0.0
    for one in ones:
        title = f"{kind} in {one.graph}: {table.seconds_text(one.seconds)}"
        bars.append(Bar(one.seconds / most, title, colours.get(one.graph, SERIES), start))
        start += one.seconds / most
    seconds, calls = sum(one.seconds for one in ones), sum(one.calls for one in ones)
    note = f"{calls} calls, {table.seconds_text(seconds)}"
    return Row(kind, tuple(bars), table.share_text(seconds / total), note)


def _memory(profile: Profile) -> Plot | None:
    """A fresh process' memory over its seconds, with its phases as bands."""
    cold = profile.cold
    if not cold.memory:
        return None
    most = cold.phases[-1].end, 1.1 * max(look.resident for look in cold.memory)
    looks: list[MemorySample] = [look for look in cold.memory if look.at <= most[0]]
    ground = [(look.at, 0.0) for look in looks]
    files = [(look.at, float(look.files)) for look in looks]
    everything = [(look.at, float(look.resident)) for look in looks]
    bands = tuple(
        Bar(
            (phase.end - phase.start) / most[0],
            f"{phase.name}: {table.seconds_text(phase.end - phase.start)}",
            _series(number),
            phase.start / most[0],
        )
        for number, phase in enumerate(cold.phases)
    )
    return Plot(
        (charts.area(ground, files, most, SERIES), charts.area(files, everything, most, 1)),
        (charts.line(files, most, SERIES), charts.line(everything, most, 1)),
        charts.x_ticks(most[0], table.seconds_text),
        charts.y_ticks(most[1], table.megabytes_text),
        bands,
    )


def _cells(profile: Profile, stage: StageTime) -> tuple[str, ...]:
    """A graph's line in the table; its columns are named in page.html."""
    seconds = stage.seconds
    return (
        stage.name,
        str(stage.calls),
        table.seconds_text(seconds.p50),
        table.seconds_text(seconds.p95),
        table.share_text(seconds.p50 / profile.picture.p50),
        "-" if stage.macs is None else table.number_text(stage.macs / 1e9),
        *table.achieved(profile, stage),
    )


def _facts(profile: Profile) -> dict[str, str]:
    return {
        "memory": table.memory_line(profile),
        "loop itself": table.loop_line(profile),
        "adapter": f"{table.adapter_line(profile)}. {profile.adapter.how}",
        "rates": table.rates_line(profile),
        "overhead": table.overhead_line(profile),
        "stand-ins": "; ".join(profile.asked.stand_ins) or "none",
        "notes": "; ".join(profile.notes) or "none",
        "system": profile.machine.system,
        "versions": ", ".join(f"{name} {version}" for name, version in profile.machine.versions.items()),
    }


def _series(number: int) -> int:
    return number % SERIES + 1
