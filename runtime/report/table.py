"""Numbers as people read them."""

from collections.abc import Iterator, Sequence

from ..profiling.record import Profile, StageTime, loop_seconds


def seconds_text(value: float) -> str:
    """Seconds, in milliseconds below one."""
    if value == 0:
        return "0 s"
    if value < 0.9995:
        return f"{value * 1e3:.1f} ms" if value < 0.1 else f"{value * 1e3:.0f} ms"
    return f"{value:.2f} s" if value < 100 else f"{value:.0f} s"


def megabytes_text(value: float) -> str:
    """Bytes, in MB or GB of powers of ten."""
    return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.0f} MB"


def share_text(value: float) -> str:
    """A share as per cent."""
    return f"{value * 100:.1f} %" if abs(value) < 0.1 else f"{value * 100:.0f} %"


def rate_text(value: float, unit: str) -> str:
    """A rate in units a second, in G or T."""
    return f"{value / 1e12:.2f} T{unit}/s" if value >= 1e12 else f"{value / 1e9:.1f} G{unit}/s"


def number_text(value: float) -> str:
    """A number with three digits at least."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


MOST_OPERATORS = 12
Row = tuple[str, ...]


def profile_lines(profile: Profile) -> list[str]:
    """Everything that was measured, for a terminal."""
    return [*_head(profile), "", *_cold(profile), "", *_run(profile), "", *_operators(profile), "", *_foot(profile)]


def columns(rows: Sequence[Row]) -> list[str]:
    """Rows as lines, the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if not i else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def machine_line(profile: Profile) -> str:
    """Processor, cores, instruction sets and memory."""
    machine = profile.machine
    facts = [machine.processor, f"{machine.cores} cores", *machine.features]
    return ", ".join(facts + ([f"{megabytes_text(machine.memory)} memory"] if machine.memory else []))


def settings_line(profile: Profile) -> str:
    """The run that was measured, and how often."""
    run = profile.asked
    height, width = run.size
    text = f"{run.sampler}, {run.steps} steps, guidance {run.guidance:g}, {height}x{width}, count {run.count}"
    text += f", {run.threads or 'all'} threads" + (f", preset {run.preset}" if run.preset else "")
    text += f"; attention: {run.attention}" if run.attention else ""
    return f"{text}; {run.warm_up} run(s) to warm up, {run.runs} measured, {len(profile.cold.seconds.all)} cold"


def overhead_line(profile: Profile) -> str:
    """What the measuring itself cost."""
    overhead = profile.overhead
    text = (
        f"recorder {overhead.counted * 100:.3f} % of a run, counted; {share_text(overhead.paired)} in pairs of runs "
        f"({share_text(overhead.least)} to {share_text(overhead.most)})"
    )
    if (longer := profile.operators.overhead) is not None:
        than = "more" if longer >= 0 else "less"
        text += f"; operators are timed in calls of their own, which take {share_text(abs(longer))} {than}"
    return text


def memory_line(profile: Profile) -> str:
    """The peak of a fresh process, and how much of it are mapped files."""
    most = max((look.files for look in profile.cold.memory), default=0)
    return (
        f"peak memory {megabytes_text(profile.cold.peak)}, of a fresh process that draws one picture: resident, with "
        f"mapped files, libraries among them (up to {megabytes_text(most)})"
    )


def loop_line(profile: Profile) -> str:
    """What the loop takes while no graph is called."""
    loop, whole = loop_seconds(profile)
    return (
        f"{seconds_text(loop)} of {seconds_text(whole)}, {share_text(loop / whole)} of the steps of the run in the "
        "middle: sampler, guidance and batches, while no graph is called"
    )


def adapter_line(profile: Profile) -> str:
    """What the adapter costs over the plain model."""
    adapter = profile.adapter
    attention = "none" if adapter.attention is None else seconds_text(adapter.attention)
    share = "an unknown share" if adapter.share is None else share_text(adapter.share)
    return f"{share} over the plain model: stages {seconds_text(adapter.stages)}, second attention {attention}"


def rates_line(profile: Profile) -> str:
    """What the machine reaches at most."""
    products = [f"{kind} {rate_text(value, 'OP')}" for kind, value in profile.rates.products.items()]
    return f"{', '.join(products)}, copy {rate_text(profile.rates.copy, 'B')} ({profile.rates.how})"


def achieved(profile: Profile, stage: StageTime) -> tuple[str, str]:
    """Share of the machine's product rate, in float32 and in every other type that the graph uses, and of its copy
    rate."""
    moved = (
        share_text(stage.moved / stage.seconds.p50 / profile.rates.copy) if stage.moved and stage.seconds.p50 else "-"
    )
    shares = [f"{share_text(share)} {kind}" for kind, share in product_shares(profile, stage).items()]
    return ", ".join(shares) or "-", moved


def product_shares(profile: Profile, stage: StageTime) -> dict[str, float]:
    """Of the machine's product rate, by type: float32 and what else the graph uses; none where nothing was counted."""
    if stage.macs is None or not stage.seconds.p50:
        return {}
    done = 2 * stage.macs / stage.seconds.p50
    kinds = ["fp32", *(kind for kind in profile.rates.products if kind != "fp32" and kind in _types(stage))]
    return {kind: done / profile.rates.products[kind] for kind in kinds}


def operators_note(profile: Profile) -> str:
    """Why there are no operators to show; empty where there are some."""
    if profile.operators.note:
        return profile.operators.note
    return "" if any(one.seconds for one in profile.operators.found) else "none took any time that could be measured"


def _types(stage: StageTime) -> set[str]:
    return {"int8": {"int8", "bf16"}, "int8+fp16": {"int8"}, "bf16": {"bf16"}}.get(stage.precision, set())


def _head(profile: Profile) -> Iterator[str]:
    yield f"{profile.title}: {profile.system}, {', '.join(profile.precision)}"
    yield f"  {machine_line(profile)}"
    packages = ", ".join(f"{name} {version}" for name, version in profile.machine.versions.items())
    busy = "" if profile.machine.load is None else f"; load {profile.machine.load:.1f} when it began"
    yield f"  {profile.machine.system}, {packages}{busy}"
    yield f"  {settings_line(profile)}"
    yield from (f"  {line}" for line in profile.asked.stand_ins)
    yield from (f"  {line}" for line in profile.notes)


def _cold(profile: Profile) -> Iterator[str]:
    cold = profile.cold
    yield (
        f"cold start, process to first picture: p50 {seconds_text(cold.seconds.p50)}, "
        f"p95 {seconds_text(cold.seconds.p95)} (the disk's cache warm)"
    )
    yield "  " + ", ".join(f"{phase.name} {seconds_text(phase.end - phase.start)}" for phase in cold.phases)
    yield f"  {memory_line(profile)}"
    yield "load: " + ", ".join(f"{name} {seconds_text(value)}" for name, value in profile.load.items())


def _run(profile: Profile) -> Iterator[str]:
    rows: list[Row] = [("one picture", "calls", "p50", "p95", "share", "of product rate", "of copy rate")]
    total = profile.picture.p50
    for name, one in (("picture", profile.picture), *profile.phases.items(), ("each step", profile.all_steps)):
        share = share_text(one.p50 / total)
        rows.append((name, "", seconds_text(one.p50), seconds_text(one.p95), share, "", ""))
    for stage in profile.stages:
        name = f"  {stage.kind}: {stage.name}" + (" (adapter)" if stage.adapter else "")
        one, part = stage.seconds, share_text(stage.seconds.p50 / total)
        rows.append(
            (name, str(stage.calls), seconds_text(one.p50), seconds_text(one.p95), part, *achieved(profile, stage))
        )
    yield from columns(rows)
    yield ""
    yield "steps, p50 and p95: " + ", ".join(
        f"{number} {seconds_text(step.p50)} {seconds_text(step.p95)}" for number, step in enumerate(profile.steps, 1)
    )


def _operators(profile: Profile) -> Iterator[str]:
    operators = profile.operators
    if note := operators_note(profile):
        yield f"operators: {note}"
        return
    total = sum(one.seconds for one in operators.found)
    rows: list[Row] = [("operators", "graph", "calls", "seconds", "share")]
    for one in operators.found[:MOST_OPERATORS]:
        share = share_text(one.seconds / total)
        rows.append((one.type, one.graph, str(one.calls), seconds_text(one.seconds), share))
    yield from columns(rows)
    rest = operators.found[MOST_OPERATORS:]
    if rest:
        yield f"and {len(rest)} more: {seconds_text(sum(one.seconds for one in rest))}"


def _foot(profile: Profile) -> Iterator[str]:
    yield f"loop itself: {loop_line(profile)}"
    yield f"adapter: {adapter_line(profile)}"
    yield f"  {profile.adapter.how}"
    yield f"rates of this machine: {rates_line(profile)}"
    yield "  products are counted from the graphs as they are written; what a call moves is weights, inputs and outputs"
    yield f"overhead: {overhead_line(profile)}"
