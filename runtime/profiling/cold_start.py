"""From a process' start to its first picture, in fresh processes."""

import json
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..engines.memory import peak_bytes
from ..errors import InputError
from ..load import load
from .job import Job
from .record import Cold, Phase, Resident
from .resident import Watch
from .samples import Samples
from .stand_ins import completed

PROGRAM = f"import time; begun = time.perf_counter(); from {__name__} import main; main(begun)"


@dataclass(frozen=True, slots=True)
class _Started:
    """One process: its phases, its memory over time, its peak, and which backend was chosen, with why no better."""

    phases: tuple[Phase, ...]
    memory: tuple[Resident, ...]
    peak: int
    backend: str
    notes: tuple[str, ...]

    @property
    def seconds(self) -> float:
        return self.phases[-1].end


def cold_start(job: Job) -> tuple[Cold, str, tuple[str, ...]]:
    """Starts a process `job.cold` times; also the backend that served, and why no better one did.

    The disk's cache is warm from the second on, and before the first if the bundle was read lately. Raises InputError
    as the run in the process does.
    """
    started = sorted((_start(job) for _ in range(job.cold)), key=lambda one: one.seconds)
    middle = started[len(started) // 2]
    cold = Cold(
        Samples(tuple(one.seconds for one in started)),
        middle.phases,
        middle.memory,
        max(one.peak for one in started),
    )
    return cold, middle.backend, middle.notes


def _start(job: Job) -> _Started:
    start = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        with Watch(child.pid, start) as watch:
            out, error = child.communicate(json.dumps(_to_json(job)).encode())
    finally:
        child.kill()
        child.wait()
    if child.returncode:
        last = (error.decode(errors="replace").strip().splitlines() or ["nothing"])[-1]
        raise InputError(
            f"{job.bundle}: the process that draws the first picture ended with code {child.returncode}: {last}"
        )
    told = json.loads(out)
    if "problems" in told:
        raise InputError(*told["problems"])
    ends = [*told["ends"].items()]
    starts = [0.0, *(end - start for _, end in ends)]
    phases = tuple(Phase(name, begin, end - start) for (name, end), begin in zip(ends, starts, strict=False))
    return _Started(phases, watch.seen(), told["peak"], told["backend"], tuple(told["notes"]))


def _draw(job: Job, begun: float) -> dict[str, Any]:
    """Runs in the fresh process. Ends are seconds of the clock that all processes share."""
    ends = {"interpreter": begun, "import": time.perf_counter()}
    pipeline = load(job.bundle, job.backend, job.threads, text_bundle=job.text_bundle, preset=job.preset)
    ends["load"] = time.perf_counter()
    options, _ = completed(pipeline.bundle, job.options)
    output = pipeline(**options)
    steps = [span for span in output.spans if span.name == "denoise"]
    ends["encode"] = steps[0].start
    ends["first step"] = steps[0].end
    if len(steps) > 1:
        ends["other steps"] = steps[-1].end
    ends["decode"] = output.spans[-1].end
    return {"ends": ends, "peak": peak_bytes(), "backend": pipeline.backend, "notes": pipeline.notes}


def _to_json(job: Job) -> dict[str, Any]:
    return {
        "bundle": str(job.bundle),
        "backend": job.backend,
        "threads": job.threads,
        "text_bundle": job.text_bundle and str(job.text_bundle),
        "preset": job.preset,
        "options": {name: _plain(value) for name, value in job.options.items()},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def _from_json(data: dict[str, Any]) -> Job:
    job = Job(Path(data.pop("bundle")))
    size = data["options"].get("size")
    data["options"]["size"] = size and tuple(size)
    return replace(job, **data)


def main(begun: float) -> None:
    """The fresh process: a job in JSON comes in, and what was measured goes out."""
    warnings.simplefilter("ignore")
    try:
        told = _draw(_from_json(json.load(sys.stdin)), begun)
    except (InputError, OSError, MemoryError) as error:
        told = {"problems": getattr(error, "problems", (f"{type(error).__name__}: {error}",))}
    print(json.dumps(told))
