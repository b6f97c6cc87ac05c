"""`x2i build`: make the engines of a bundle, on the device or ahead of it."""

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click

from ..bundle.reader import Bundle, open_bundle
from ..engines import builder
from ..engines.build_request import LIBRARIES, BuildJob, BuildRequest, BuildResult
from ..engines.estimates import (
    PastBuild,
    check_room,
    likely_seconds,
    needed_disk,
    needed_memory,
    past_builds,
    remember_build,
)
from ..engines.tensorrt_key import RTX_TARGETS
from ..errors import InputError
from ..inputs.lora import MOST_RANK
from ..inputs.sampling import MOST_PICTURES
from .console import command, echo_json
from .options import Size
from .progress import bars, echo, progress_bar, track

STOPPED = 130
COUNT = click.IntRange(1, MOST_PICTURES)


@command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--for", "backend", required=True, metavar="BACKEND", help="cpu, openvino, openvino:GPU, cuda, rtx, tensorrt."
)
@click.option("--target", multiple=True, help=f"GPU to build for, with rtx: {', '.join(RTX_TARGETS)}; any if left out.")
@click.option(
    "--size", type=Size(), multiple=True, help="Height and width in pixels; several span a range, or get engines each."
)
@click.option("--count", type=COUNT, default=1, show_default=True, help="Pictures drawn at once, at most.")
@click.option("--graph", multiple=True, help="A graph to build, by its name; all if left out.")
@click.option("--kernels", type=click.Path(path_type=Path), help="Folder of python -m x2i.kernels.build, for fp16.")
@click.option("--lora", type=click.IntRange(1, MOST_RANK), help="Rank of LoRAs together; build their engines, too.")
@click.option("--paint", is_flag=True, help="Build the engine for painted words, too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def build(
    bundle: Path,
    backend: str,
    target: tuple[str, ...],
    size: tuple[tuple[int, int], ...],
    count: int,
    graph: tuple[str, ...],
    kernels: Path | None,
    lora: int | None,
    paint: bool,
    as_json: bool,
) -> None:
    """Build the engines of the folder BUNDLE into its engines/: each graph's, in a process that Ctrl-C ends."""
    name, _, device = backend.partition(":")
    if name not in (*LIBRARIES, "cuda"):
        raise InputError(f"--for: expected one of {', '.join((*LIBRARIES, 'cuda'))}, got {backend!r}")
    opened = open_bundle(bundle)
    wanted = BuildRequest(name, device, target, size, count, graph, kernels, lora, paint)
    if name == "cuda":
        if wanted != BuildRequest(name):
            raise InputError("--for cuda: nothing is built, for ONNX Runtime opens the graphs; leave the rest out")
        echo("{}" if as_json else "cuda: nothing to build; ONNX Runtime opens the graphs themselves")
        return
    jobs = wanted.jobs(opened)
    _check_room(opened, [job for job in jobs if builder.find_cached(job) is None])
    with bars(not as_json):
        made = _build_all(opened, jobs, (lambda line: None) if as_json else echo)
    if as_json:
        several = Counter(job.name for job in jobs)
        names = [job.label if several[job.name] > 1 else job.name for job in jobs]
        echo_json({name: _facts(built) for name, built in zip(names, made, strict=True)})


def _build_all(bundle: Bundle, jobs: list[BuildJob], say: Callable[[str], None]) -> list[BuildResult]:
    made: list[BuildResult] = []
    try:
        for job in track(jobs, "engines", unit="engine"):
            made.append(_build(bundle, job, say))
    except KeyboardInterrupt:
        echo(f"x2i: stopped; {len(made)} of {len(jobs)} engines are done and stay", err=True)
        sys.exit(STOPPED)
    return made


def _build(bundle: Bundle, job: BuildJob, say: Callable[[str], None]) -> BuildResult:
    size = bundle.graph_bytes(job.name)
    expected = likely_seconds(job.library, job.name, job.precision, size, past_builds())
    estimate = "no estimate before the first build" if expected is None else f"about {expected:.0f} s"
    say(f"{job.label}: {size / 1e6:.1f} MB, {job.precision}; {estimate}")
    with progress_bar(f"{job.name} (Ctrl-C stops)", expected and round(expected), "s") as bar:
        built = builder.build_engine(job, Path(job.engines), lambda seconds: bar.move_to(round(seconds)))
    if built.cached:
        say(f"  {built.engine} is there")
        return built
    remember_build(PastBuild(job.library, job.name, job.precision, size, built.seconds, built.peak_bytes))
    engine = (Path(job.engines) / built.engine).stat().st_size / 1e6
    say(f"  {built.engine}: {engine:.1f} MB, {built.seconds:.1f} s, {built.peak_bytes / 1e9:.2f} GB of memory")
    for remark in built.remarks:
        say(f"  {remark}")
    return built


def _check_room(bundle: Bundle, jobs: list[BuildJob]) -> None:
    """For the largest of the builds, and for all engines together."""
    if not jobs:
        return
    sizes, past = [bundle.graph_bytes(job.name) for job in jobs], past_builds()
    memory = max(needed_memory(job.library, size, past) for job, size in zip(jobs, sizes, strict=True))
    check_room(memory, sum(map(needed_disk, sizes)), Path(jobs[0].engines))


def _facts(built: BuildResult) -> dict[str, object]:
    return {
        "engine": built.engine,
        "there": built.cached,
        "seconds": round(built.seconds, 3),
        "peak_bytes": built.peak_bytes,
        "remarks": list(built.remarks),
    }
