"""A profile as one HTML file with charts, which asks nothing of the network."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from ..profiling.record import Operator, Profile, Resident, StageTime
from . import charts, comparison, table

SERIES = 8
MOST_OPERATORS = 14
STYLE = Path(__file__).with_name("page.css")


def html_page(profiles: Sequence[Profile]) -> str:
    """The whole page; several profiles are compared first."""
    title = " and ".join(profile.title for profile in profiles)
    body = _compared(profiles) if len(profiles) > 1 else ""
    body += "".join(_article(profile) for profile in profiles)
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE.read_text('utf-8')}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def _compared(profiles: Sequence[Profile]) -> str:
    rows = []
    series = [(f"{chr(ord('A') + i)}: {profile.title}", _series(i)) for i, profile in enumerate(profiles)]
    for name, values in comparison.measured(profiles):
        there = [value for value in values if value]
        for i, value in enumerate(values):
            if value:
                told = table.megabytes_text(value) if "memory" in name else table.seconds_text(value)
                ratio = f" {values[0] / value:.2f}x" if i and values[0] else ""
                first = value is there[0]
                bar = charts.bar(value / max(there), f"{profiles[i].title}: {told}", _series(i))
                rows.append(charts.row(name.strip() if first else "", bar, told + ratio))
    told = "Seconds and bytes. Ratios are of the first over the other: above 1 the other takes less."
    article = (
        f"<h1>Side by side</h1>{_section('Everything measured in both', told, ''.join(rows) + charts.legend(series))}"
    )
    return f"<article>{article}</article>"


def _article(profile: Profile) -> str:
    told = f"{profile.system}, {', '.join(profile.precision)}", table.machine_line(profile), table.asked_line(profile)
    head = f"<h1>{escape(profile.title)}</h1>" + "".join(f"<p class='sub'>{escape(line)}</p>" for line in told)
    colours = {stage.name: _series(number) for number, stage in enumerate(profile.stages)}
    pair = f'<div class="pair">{_steps(profile)}{_achieved(profile, colours)}</div>'
    parts = _tiles(profile), _waterfall(profile, colours), pair, _operators(profile, colours), _memory(profile)
    return f"<article>{head}{''.join(parts)}{_stages(profile)}{_facts(profile)}</article>"


def _tiles(profile: Profile) -> str:
    picture, steps, cold = profile.picture, profile.all_steps, profile.cold
    return charts.tiles(
        [
            ("one picture", table.seconds_text(picture.p50), f"p95 {table.seconds_text(picture.p95)}"),
            ("one step", table.seconds_text(steps.p50), f"p95 {table.seconds_text(steps.p95)}"),
            ("cold start", table.seconds_text(cold.seconds.p50), "process to first picture"),
            ("peak memory", table.megabytes_text(cold.peak), "mapped files included"),
            ("adapter", f"+{table.share_text(profile.adapter.share)}", "over the plain model"),
        ]
    )


def _waterfall(profile: Profile, colours: dict[str, int]) -> str:
    most = max(event.end for event in profile.events)
    rows = []
    for stage in profile.stages:
        calls = [event for event in profile.events if event.track == "graphs" and event.name == stage.name]
        bars = "".join(
            charts.bar(
                (call.end - call.start) / most,
                f"{stage.name}, call {number}: {table.seconds_text(call.end - call.start)}",
                colours[stage.name],
                call.start / most,
            )
            for number, call in enumerate(calls, 1)
        )
        called = f"{stage.kind}, {stage.calls} call{'s' * (stage.calls > 1)}" + (", adapter" if stage.adapter else "")
        rows.append(charts.row(stage.name, bars, table.seconds_text(sum(c.end - c.start for c in calls)), called))
    told = "The warm run in the middle: every call of every graph. What is empty is the loop's own work."
    return _section("Where a picture's time goes", told, "".join(rows) + charts.time_axis(most, table.seconds_text))


def _steps(profile: Profile) -> str:
    points = list(enumerate(profile.steps, 1))
    most = max(len(points) + 1.0, 2.0), 1.15 * max(step.p95 for step in profile.steps)
    low, high = ([(float(n), step.percentile(p)) for n, step in points] for p in (5, 95))
    curve = [(float(n), step.p50) for n, step in points]
    shapes = charts.area(low, high, most, 1) + charts.line(curve, most, 1)
    plot = charts.plot(shapes, most, lambda x: f"{x:g}" if x == int(x) and x else "", table.seconds_text)
    told = f"Each denoising step over {profile.asked.runs} run(s): median, and from p5 to p95."
    return _section("Step by step", told, plot)


def _achieved(profile: Profile, colours: dict[str, int]) -> str:
    rows = []
    for stage in profile.stages:
        product, copy = table.achieved(profile, stage)
        shares = table.product_shares(profile, stage)
        # The fastest type that a graph uses is the one that it could be computed in at best.
        kind = min(shares, key=lambda one: shares[one], default="")
        bar = charts.bar(min(1.0, shares.get(kind, 0.0)), f"{stage.name}: {product}", colours[stage.name])
        rows.append(
            charts.row(stage.name, bar, f"{table.share_text(shares[kind])} {kind}" if kind else "-", f"copy {copy}")
        )
    rates = ", ".join(f"{kind} {table.rate_text(rate, 'OP')}" for kind, rate in profile.rates.products.items())
    told = f"Share of this machine's own product rate in the fastest type that the graph uses: {rates}."
    return _section("How close to the machine's best", told, "".join(rows))


def _operators(profile: Profile, colours: dict[str, int]) -> str:
    found = profile.operators
    if found.note:
        return _section("Operators", found.note, "")
    total = sum(one.seconds for one in found.found)
    by_type: dict[str, list[Operator]] = {}
    for one in found.found:
        by_type.setdefault(one.type, []).append(one)
    sums = sorted(((sum(o.seconds for o in ones), kind) for kind, ones in by_type.items()), reverse=True)
    most = sums[0][0]
    rows = [_operator_row(kind, by_type[kind], most, total, colours) for _, kind in sums[:MOST_OPERATORS]]
    rest = sum(seconds for seconds, _ in sums[MOST_OPERATORS:])
    if rest:
        note = f"{len(sums) - MOST_OPERATORS} kinds"
        rows.append(
            charts.row(
                "all others", charts.bar(rest / most, "all others", SERIES), table.share_text(rest / total), note
            )
        )
    graphs = [(stage.name, colours[stage.name]) for stage in profile.stages]
    extra = ""
    if found.overhead is not None:
        than = "longer" if found.overhead >= 0 else "less long"
        extra = f" These calls took {table.share_text(abs(found.overhead))} {than} than others."
    told = f"One run, as the backend's own profiler tells it, in calls of their own.{extra}"
    return _section("Operators", told, "".join(rows) + charts.legend(graphs))


def _operator_row(kind: str, ones: list[Operator], most: float, total: float, colours: dict[str, int]) -> str:
    bars, start = "", 0.0
    for one in ones:
        title = f"{kind} in {one.graph}: {table.seconds_text(one.seconds)}"
        bars += charts.bar(one.seconds / most, title, colours.get(one.graph, SERIES), start)
        start += one.seconds / most
    seconds, calls = sum(one.seconds for one in ones), sum(one.calls for one in ones)
    return charts.row(kind, bars, table.share_text(seconds / total), f"{calls} calls, {table.seconds_text(seconds)}")


def _memory(profile: Profile) -> str:
    cold = profile.cold
    if not cold.memory:
        return _section("Memory", "This system does not tell a process' memory over time.", "")
    most = cold.phases[-1].end, 1.1 * max(look.resident for look in cold.memory)
    looks = [look for look in cold.memory if look.at <= most[0]]
    bands = "".join(
        f'<rect class="phase s{_series(i)}" x="{phase.start / most[0]:.4f}" y="0" height="1" '
        f'width="{(phase.end - phase.start) / most[0]:.4f}"/>'
        for i, phase in enumerate(cold.phases)
    )
    shapes = _stack(looks, most)
    plot = charts.plot(shapes, most, table.seconds_text, table.megabytes_text, bands)
    strip = "".join(
        charts.bar(
            (phase.end - phase.start) / most[0],
            f"{phase.name}: {table.seconds_text(phase.end - phase.start)}",
            _series(i),
            phase.start / most[0],
        )
        for i, phase in enumerate(cold.phases)
    )
    strip = f'<div class="plot strip"><div></div><span class="track">{strip}</span></div>'
    names = [(f"{p.name} {table.seconds_text(p.end - p.start)}", _series(i)) for i, p in enumerate(cold.phases)]
    told = "A fresh process from its start to its first picture. Upper line: all that is resident; lower: mapped files."
    return _section("Cold start, and memory over time", told, plot + strip + charts.legend(names))


def _stack(looks: Sequence[Resident], most: charts.Point) -> str:
    ground = [(look.at, 0.0) for look in looks]
    files = [(look.at, float(look.files)) for look in looks]
    everything = [(look.at, float(look.resident)) for look in looks]
    fills = charts.area(ground, files, most, SERIES) + charts.area(files, everything, most, 1)
    return fills + charts.line(files, most, SERIES) + charts.line(everything, most, 1)


def _stages(profile: Profile) -> str:
    rows = [_stage_row(profile, stage) for stage in profile.stages]
    head = "graph", "calls", "p50", "p95", "share", "GMAC", "of product rate", "of copy rate"
    return _section("In numbers", "All calls of a run together.", charts.html_table(head, rows))


def _stage_row(profile: Profile, stage: StageTime) -> list[str]:
    one = stage.seconds
    macs = "-" if stage.macs is None else table.number_text(stage.macs / 1e9)
    told = (
        table.seconds_text(one.p50),
        table.seconds_text(one.p95),
        table.share_text(one.p50 / profile.picture.p50),
        macs,
    )
    return [stage.name, str(stage.calls), *told, *table.achieved(profile, stage)]


def _facts(profile: Profile) -> str:
    facts = {
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
    listed = "".join(f"<dt>{name}</dt><dd>{escape(told)}</dd>" for name, told in facts.items())
    return _section("How it was measured", "", f"<dl>{listed}</dl>")


def _section(title: str, told: str, body: str) -> str:
    said = f"<p>{escape(told)}</p>" if told else ""
    return f"<section><h2>{escape(title)}</h2>{said}{body}</section>"


def _series(number: int) -> int:
    return number % SERIES + 1
