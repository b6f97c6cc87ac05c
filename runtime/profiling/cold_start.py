"""From a process's start to its first picture, in fresh processes that are watched from outside."""

import json
import subprocess
import sys
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

from ..errors import TOLD_BY_CHILDREN, InputError, problems_of
from ..load import load
from ..machine import peak_memory
from .job import ProfileJob, Track, completed_options, untracked
from .record import ColdStart, MemorySample, Phase, Samples

WATCH_INTERVAL = 0.005
"""Seconds between two looks."""
MOST_SAMPLES = 400
"""Looks that are kept of a process' life."""


class MemoryWatch:
    """`with Watch(pid, start) as watch:` looks at a process until the block ends; times are counted from `start`, in
    seconds of `time.perf_counter`."""

    def __init__(self, pid: int, start: float):
        self._pid, self._start = pid, start
        self._seen: list[MemorySample] = []
        self._end = Event()
        self._thread = Thread(target=self._look, daemon=True)

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()

    def seen(self) -> tuple[MemorySample, ...]:
        """At most MOST of the looks: of each stretch the one with the most memory."""
        stretch = -(-len(self._seen) // MOST_SAMPLES) or 1
        pieces = (self._seen[begin : begin + stretch] for begin in range(0, len(self._seen), stretch))
        return tuple(max(piece, key=lambda look: look.resident) for piece in pieces)

    def _look(self) -> None:
        # Not above: a fresh process imports this module, and would be measured with it.
        import psutil

        # A process that has ended has no memory to look at.
        with suppress(psutil.Error):
            process = psutil.Process(self._pid)
            while not self._end.wait(WATCH_INTERVAL):
                memory = process.memory_info()
                if memory.rss:
                    # Linux alone tells what lies in mapped files.
                    at, files = time.perf_counter() - self._start, getattr(memory, "shared", 0)
                    self._seen.append(MemorySample(at, memory.rss, files))


PROGRAM = f"""
import os, time
begun = time.perf_counter()
answer = os.dup(1)
os.dup2(2, 1)
from {__name__} import main
main(begun, answer)
"""
"""What a fresh process runs. What libraries print from here on reaches stderr, so that the answer is the pipe's last
line."""


@dataclass(frozen=True, slots=True)
class _Started:
    """One process: its phases, its memory over time, its peak, and which backend was chosen, with why no better."""

    phases: tuple[Phase, ...]
    memory: tuple[MemorySample, ...]
    peak: int
    backend: str
    notes: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """From the process's start to its first picture."""
        return self.phases[-1].end


def cold_start(job: ProfileJob, track: Track = untracked) -> tuple[ColdStart, str, tuple[str, ...]]:
    """Starts a process `job.cold` times; also the backend that served, and why no better one did.

    The disk's cache is warm from the second on, and before the first if the bundle was read lately. Raises InputError
    as the run in the process does.
    """
    started = sorted((_start(job) for _ in track(range(job.cold), "fresh processes")), key=lambda one: one.seconds)
    middle = started[len(started) // 2]
    cold = ColdStart(
        Samples(tuple(one.seconds for one in started)),
        middle.phases,
        middle.memory,
        max(one.peak for one in started),
    )
    return cold, middle.backend, middle.notes


def _start(job: ProfileJob) -> _Started:
    start = time.perf_counter()
    # Without -P a numpy.py or a json.py in the working folder would be run.
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        with MemoryWatch(child.pid, start) as watch:
            out, error = child.communicate(json.dumps(_to_json(job)).encode())
    finally:
        child.kill()
        child.wait()
    if child.returncode:
        last = (error.decode(errors="replace").strip().splitlines() or ["nothing"])[-1]
        raise InputError(
            f"{job.bundle}: the process that draws the first picture ended with code {child.returncode}: {last}"
        )
    answer = json.loads(out.splitlines()[-1])
    if "problems" in answer:
        raise InputError(*answer["problems"])
    ends = [*answer["ends"].items()]
    starts = [0.0, *(end - start for _, end in ends)]
    phases = tuple(Phase(name, begin, end - start) for (name, end), begin in zip(ends, starts, strict=False))
    return _Started(phases, watch.seen(), answer["peak"], answer["backend"], tuple(answer["notes"]))


def _draw(job: ProfileJob, begun: float) -> dict[str, Any]:
    """Runs in the fresh process. Ends are seconds of the clock that all processes share."""
    ends = {"interpreter": begun, "import": time.perf_counter()}
    pipeline = load(
        job.bundle,
        job.backend,
        job.threads,
        text_bundle=job.text_bundle,
        preset=job.preset,
        attention=job.attention,
    )
    ends["load"] = time.perf_counter()
    options, _ = completed_options(pipeline.bundle, job.options)
    output = pipeline(**options)
    steps = [span for span in output.spans if span.name == "denoise"]
    ends["encode"] = steps[0].start
    ends["first step"] = steps[0].end
    if len(steps) > 1:
        ends["other steps"] = steps[-1].end
    ends["decode"] = output.spans[-1].end
    return {"ends": ends, "peak": peak_memory(), "backend": pipeline.backend, "notes": pipeline.notes}


def _to_json(job: ProfileJob) -> dict[str, Any]:
    return {
        "bundle": str(job.bundle),
        "backend": job.backend,
        "threads": job.threads,
        "attention": job.attention,
        "text_bundle": job.text_bundle and str(job.text_bundle),
        "preset": job.preset,
        "options": {name: _plain(value) for name, value in job.options.items()},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def _from_json(data: dict[str, Any]) -> ProfileJob:
    job = ProfileJob(Path(data.pop("bundle")))
    size = data["options"].get("size")
    data["options"]["size"] = size and tuple(size)
    return replace(job, **data)


def main(begun: float, answer: int) -> None:
    """The fresh process, which began at `begun`: a job in JSON comes in on stdin, and what was measured goes out to the
    file descriptor `answer`."""
    warnings.simplefilter("ignore")
    try:
        found = _draw(_from_json(json.load(sys.stdin)), begun)
    except TOLD_BY_CHILDREN as error:
        found = {"problems": problems_of(error)}
    with open(answer, "w", encoding="utf-8") as stream:
        stream.write(f"\n{json.dumps(found)}\n")
