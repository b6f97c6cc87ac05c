"""`x2i profile`: what a picture costs, where it goes, and how two bundles, backends or machines compare."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ..bundle.reader import open_bundle
from ..errors import EngineWarning, InputError
from ..files.writing import check_targets
from ..profiling.job import ProfileJob
from ..profiling.measure import measure
from ..profiling.record import Profile, read, save, save_text
from ..report import comparison, table
from ..report.page import html_page
from ..report.trace import trace
from ..sessions.backends import check_backend
from .console import command, warned
from .options import (
    FILE,
    attention_option,
    given_keywords,
    input_files,
    run_keywords,
    text_bundle_option,
    threads_option,
)
from .progress import bars, echo, track

MOST = 8
"""Profiles side by side."""
MOST_RUNS = 10_000
"""Of one kind, measured."""
RUNS = click.IntRange(1, MOST_RUNS)


@command()
@click.argument("what", type=FILE, nargs=-1, required=True, metavar="BUNDLE[@BACKEND]|PROFILE.json...")
@click.option("--prompt", help="What is drawn; something in its place if left out.")
@run_keywords(without=("noise",))
@text_bundle_option
@click.option("--backend", multiple=True, help="What runs the graphs; several are compared. The best if left out.")
@threads_option
@attention_option
@click.option("--runs", type=RUNS, default=5, show_default=True, help="Runs that are measured.")
@click.option("--warm-up", type=click.IntRange(0, MOST_RUNS), default=1, show_default=True, help="Runs before them.")
@click.option("--cold", type=RUNS, default=3, show_default=True, help="Fresh processes started.")
@click.option("--operators/--no-operators", default=True, help="Time operators and count products.")
@click.option("--json", "json_file", type=FILE, help="Save the profile, to compare it later.")
@click.option("--trace", "trace_file", type=FILE, help="Save a trace for Perfetto or Chrome.")
@click.option("--html", "html_file", type=FILE, help="Save a report: one file, with charts.")
def profile(
    what: tuple[Path, ...],
    backend: tuple[str, ...],
    json_file: Path | None,
    trace_file: Path | None,
    html_file: Path | None,
    **given: Any,
) -> None:
    """Measure the folder BUNDLE, or read a profile saved with --json; several are put side by side.

    BUNDLE@BACKEND runs one on a backend of its own. With several, each gets its own --json and --trace file: -1, -2,
    ... stands before the suffix."""
    written = [file for file in (json_file, trace_file, html_file) if file is not None]
    read_ones = [*input_files(given), *(path for path in what if not path.is_dir())]
    check_targets(written, read_ones, [path for path in what if path.is_dir()])
    found = _profiles(what, backend, given)
    # Measured is measured: it is kept even if it cannot be compared.
    for number, one in enumerate(found, 1):
        if json_file is not None:
            save(_numbered(json_file, number, len(found)), one)
        if trace_file is not None:
            save_text(_numbered(trace_file, number, len(found)), trace(one))
    if len(found) > 1:
        comparison.check_comparable(found)
    for one in found:
        for line in table.profile_lines(one):
            echo(line)
        echo("")
    if len(found) > 1:
        for line in comparison.comparison_lines(found):
            echo(line)
    if html_file is not None:
        save_text(html_file, html_page(found))


def _profiles(what: Sequence[Path], backends: tuple[str, ...], given: dict[str, Any]) -> list[Profile]:
    """Read first, since a file that cannot be read would make the measuring vain."""
    problems: list[str] = []
    ready: list[Profile | ProfileJob] = []
    for path in what:
        try:
            bundle, own = _split(path)
            if bundle.is_dir():
                ready += [_job(bundle, name, given) for name in own or backends or (None,)]
            else:
                ready.append(read(path))
        except InputError as error:
            problems += error.problems
    if len(ready) > MOST:
        problems.append(f"expected at most {MOST} profiles side by side, got {len(ready)}; leave some out")
    if problems:
        raise InputError(*problems)
    with warned(EngineWarning), bars():
        return [measure(one, _tell, track) if isinstance(one, ProfileJob) else one for one in ready]


def _split(what: Path) -> tuple[Path, tuple[str, ...]]:
    """A bundle and its own backend, where one is named behind an @; a folder of that very name is a bundle."""
    folder, _, backend = str(what).rpartition("@")
    return (Path(folder), (backend,)) if folder and not what.exists() and Path(folder).is_dir() else (what, ())


def _job(bundle: Path, backend: str | None, given: dict[str, Any]) -> ProfileJob:
    if backend is not None:
        check_backend(backend)
    own = {
        name: given[name]
        for name in ("threads", "attention", "text_bundle", "preset", "cold", "warm_up", "runs", "operators")
    }
    plan = open_bundle(bundle, check_files=False).manifest.plan
    prompt = {} if given["prompt"] is None else {"prompt": given["prompt"]}
    keywords = {name: value for name, value in given_keywords(plan.options(), given).items() if name != "preset"}
    return ProfileJob(bundle, backend, options=prompt | keywords, **own)


def _numbered(path: Path, number: int, of: int) -> Path:
    return path if of == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")


def _tell(line: str) -> None:
    echo(f"x2i: {line}", err=True)
