"""A profile in lines of text."""

from collections.abc import Iterator, Sequence

from . import words
from .loop import loop_seconds
from .record import Profile, Stage

MOST_OPERATORS = 12
Row = tuple[str, ...]


def lines(profile: Profile) -> list[str]:
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
    machine = profile.machine
    facts = [machine.processor, f"{machine.cores} cores", *machine.features]
    return ", ".join(facts + ([f"{words.megabytes(machine.memory)} memory"] if machine.memory else []))


def asked_line(profile: Profile) -> str:
    asked = profile.asked
    height, width = asked.size
    told = f"{asked.sampler}, {asked.steps} steps, guidance {asked.guidance:g}, {height}x{width}, count {asked.count}"
    told += f", {asked.threads or 'all'} threads" + (f", preset {asked.preset}" if asked.preset else "")
    return f"{told}; {asked.warm_up} run(s) to warm up, {asked.runs} measured, {len(profile.cold.seconds.all)} cold"


def overhead_line(profile: Profile) -> str:
    overhead = profile.overhead
    told = (
        f"recorder {overhead.counted * 100:.3f} % of a run, counted; {words.share(overhead.paired)} in pairs of runs "
        f"({words.share(overhead.least)} to {words.share(overhead.most)})"
    )
    if (longer := profile.operators.overhead) is not None:
        than = "more" if longer >= 0 else "less"
        told += f"; operators are timed in calls of their own, which take {words.share(abs(longer))} {than}"
    return told


def memory_line(profile: Profile) -> str:
    most = max((look.files for look in profile.cold.memory), default=0)
    return (
        f"peak memory {words.megabytes(profile.cold.peak)}, of a fresh process that draws one picture: resident, with "
        f"mapped files, libraries among them (up to {words.megabytes(most)})"
    )


def loop_line(profile: Profile) -> str:
    loop, whole = loop_seconds(profile)
    return (
        f"{words.seconds(loop)} of {words.seconds(whole)}, {words.share(loop / whole)} of the steps of the run in the "
        "middle: sampler, guidance and batches, while no graph is called"
    )


def adapter_line(profile: Profile) -> str:
    adapter = profile.adapter
    attention = "none" if adapter.attention is None else words.seconds(adapter.attention)
    return (
        f"{words.share(adapter.share)} over the plain model: stages {words.seconds(adapter.stages)}, second attention "
        f"{attention}"
    )


def rates_line(profile: Profile) -> str:
    products = [f"{kind} {words.rate(value, 'OP')}" for kind, value in profile.rates.products.items()]
    return f"{', '.join(products)}, copy {words.rate(profile.rates.copy, 'B')} ({profile.rates.how})"


def achieved(profile: Profile, stage: Stage) -> tuple[str, str]:
    """Share of the machine's product rate, in float32 and in every other type that the graph uses, and of its copy
    rate."""
    moved = words.share(stage.moved / stage.seconds.p50 / profile.rates.copy) if stage.moved else "-"
    shares = [f"{words.share(share)} {kind}" for kind, share in product_shares(profile, stage).items()]
    return ", ".join(shares) or "-", moved


def product_shares(profile: Profile, stage: Stage) -> dict[str, float]:
    """Of the machine's product rate, by type: float32 and what else the graph uses; none where nothing was counted."""
    if stage.macs is None:
        return {}
    done = 2 * stage.macs / stage.seconds.p50
    kinds = ["fp32", *(kind for kind in profile.rates.products if kind != "fp32" and kind in _types(stage))]
    return {kind: done / profile.rates.products[kind] for kind in kinds}


def _types(stage: Stage) -> set[str]:
    return {"int8": {"int8", "bf16"}, "int8+fp16": {"int8"}, "bf16": {"bf16"}}.get(stage.precision, set())


def _head(profile: Profile) -> Iterator[str]:
    yield f"{profile.title}: {profile.system}, {', '.join(profile.precision)}"
    yield f"  {machine_line(profile)}"
    packages = ", ".join(f"{name} {version}" for name, version in profile.machine.versions.items())
    busy = "" if profile.machine.load is None else f"; load {profile.machine.load:.1f} when it began"
    yield f"  {profile.machine.system}, {packages}{busy}"
    yield f"  {asked_line(profile)}"
    yield from (f"  {line}" for line in profile.asked.stand_ins)
    yield from (f"  {line}" for line in profile.notes)


def _cold(profile: Profile) -> Iterator[str]:
    cold = profile.cold
    yield (
        f"cold start, process to first picture: p50 {words.seconds(cold.seconds.p50)}, "
        f"p95 {words.seconds(cold.seconds.p95)} (the disk's cache warm)"
    )
    yield "  " + ", ".join(f"{phase.name} {words.seconds(phase.end - phase.start)}" for phase in cold.phases)
    yield f"  {memory_line(profile)}"
    yield "load: " + ", ".join(f"{name} {words.seconds(value)}" for name, value in profile.load.items())


def _run(profile: Profile) -> Iterator[str]:
    rows: list[Row] = [("one picture", "calls", "p50", "p95", "share", "of product rate", "of copy rate")]
    total = profile.picture.p50
    for name, one in (("picture", profile.picture), *profile.phases.items(), ("each step", profile.all_steps)):
        share = words.share(one.p50 / total)
        rows.append((name, "", words.seconds(one.p50), words.seconds(one.p95), share, "", ""))
    for stage in profile.stages:
        name = f"  {stage.kind}: {stage.name}" + (" (adapter)" if stage.adapter else "")
        one, part = stage.seconds, words.share(stage.seconds.p50 / total)
        rows.append(
            (name, str(stage.calls), words.seconds(one.p50), words.seconds(one.p95), part, *achieved(profile, stage))
        )
    yield from columns(rows)
    yield ""
    yield "steps, p50 and p95: " + ", ".join(
        f"{number} {words.seconds(step.p50)} {words.seconds(step.p95)}" for number, step in enumerate(profile.steps, 1)
    )


def _operators(profile: Profile) -> Iterator[str]:
    operators = profile.operators
    if operators.note:
        yield f"operators: {operators.note}"
        return
    total = sum(one.seconds for one in operators.found)
    rows: list[Row] = [("operators", "graph", "calls", "seconds", "share")]
    for one in operators.found[:MOST_OPERATORS]:
        told = words.seconds(one.seconds), words.share(one.seconds / total)
        rows.append((one.type, one.graph, str(one.calls), *told))
    yield from columns(rows)
    rest = operators.found[MOST_OPERATORS:]
    if rest:
        yield f"and {len(rest)} more: {words.seconds(sum(one.seconds for one in rest))}"


def _foot(profile: Profile) -> Iterator[str]:
    yield f"loop itself: {loop_line(profile)}"
    yield f"adapter: {adapter_line(profile)}"
    yield f"  {profile.adapter.how}"
    yield f"rates of this machine: {rates_line(profile)}"
    yield "  products are counted from the graphs as they are written; what a call moves is weights, inputs and outputs"
    yield f"overhead: {overhead_line(profile)}"
