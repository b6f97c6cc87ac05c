"""The answers as Markdown: speeds with their errors, then the ratios, whoever wins."""

from collections.abc import Callable, Iterator, Sequence

from harness.row import Row, Spread

Figure = Callable[[Row], Spread | None]
EMPTY = ""


def speed_table(rows: Sequence[Row], picture_steps: int) -> Iterator[str]:
    """Markdown of speeds and errors: a row for every contestant that is shown, also for what could not run."""
    heads = ["", "step, s", f"{picture_steps} steps, s", "load, s", "first step, s", "peak, GB", "latents off by"]
    yield from lines_of([*heads, "picture, dB"], [_cells(row) for row in rows if row.contestant.shown])


def ratio_table(rows: Sequence[Row], figure: Figure) -> Iterator[str]:
    """How many times as long each of the others takes as each row of ours: above 1, ours is faster."""
    ours = [row for row in rows if row.contestant.ours and row.counts and figure(row)]
    others = [row for row in rows if row.contestant.shown and not row.contestant.ours and row.counts and figure(row)]
    if ours and others:
        heads = ["takes so many times as long as", *(row.contestant.name for row in ours)]
        yield from lines_of(heads, [_ratio_cells(other, ours, figure) for other in others])


def fastest_line(rows: Sequence[Row], what: str, figure: Figure) -> Iterator[str]:
    """One line, or none, on who is fastest among those that drew the same picture; `what` names the `figure`."""
    timed = [(found.median, row) for row in rows if row.counts and row.contestant.shown and (found := figure(row))]
    if timed:
        seconds, winner = min(timed, key=lambda pair: pair[0])
        yield f"Fastest {what}: {winner.contestant.name}, {_seconds(seconds)} s."


def step_time(row: Row) -> Spread | None:
    """The figure of one step, in seconds."""
    return row.step


def picture_time(row: Row) -> Spread | None:
    """The figure of a whole picture, in seconds."""
    return row.picture


def _cells(row: Row) -> list[str]:
    if row.failed is not None:
        return [row.contestant.name, f"not run: {row.failed}", *[EMPTY] * 6]
    assert row.load is not None and row.first is not None and row.peak_bytes is not None
    cells = [row.contestant.name, _spread(row.step), _spread(row.picture), _seconds(row.load), _seconds(row.first)]
    cells.append(f"{row.peak_bytes / 1e9:.1f}")
    close = row.closeness
    if close is None:
        return [*cells, "no reference", EMPTY]
    latents = "not shown" if close.latents is None else f"{close.latents:.2%}"
    other = EMPTY if close.same else " (another picture: its speed does not count)"
    return [*cells, latents, f"{close.picture:.1f}{other}"]


def _ratio_cells(other: Row, ours: Sequence[Row], figure: Figure) -> list[str]:
    cells = [other.contestant.name]
    for row in ours:
        theirs, mine = figure(other), figure(row)
        assert theirs is not None and mine is not None
        ratio = theirs.over(mine)
        cells.append(_figure(ratio, "{:.2f}".format))
    return cells


def _spread(found: Spread | None) -> str:
    if found is None:
        return EMPTY
    return _figure(found, _seconds)


def _figure(found: Spread, words: Callable[[float], str]) -> str:
    """The spread behind the median, where there was more than one measurement."""
    if found.fastest == found.slowest:
        return words(found.median)
    return f"{words(found.median)} ({words(found.fastest)} to {words(found.slowest)})"


def _seconds(value: float) -> str:
    return f"{value:.4f}" if value < 0.1 else f"{value:.3f}" if value < 1 else f"{value:.2f}"


def lines_of(heads: list[str], rows: list[list[str]]) -> Iterator[str]:
    """A table in Markdown."""
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for cells in rows:
        yield f"| {' | '.join(cells)} |"
