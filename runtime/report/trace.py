"""A profile as a trace that Perfetto and Chrome open: complete events of the Trace Event Format, in microseconds."""

import json
from collections.abc import Iterator
from typing import Any

from ..profiling.record import Profile

COLD, RUN = 1, 2
TRACKS = {"stages": 1, "graphs": 2}


def trace(profile: Profile) -> str:
    """JSON: the cold start with its memory as one process, the run in the middle as another."""
    return json.dumps({"traceEvents": [*_cold(profile), *_run(profile)], "displayTimeUnit": "ms"})


def _cold(profile: Profile) -> Iterator[dict[str, Any]]:
    yield _name("process_name", COLD, 0, f"{profile.title}: cold start")
    yield _name("thread_name", COLD, 1, "phases")
    for phase in profile.cold.phases:
        yield _complete(phase.name, "cold start", phase.start, phase.end, COLD, 1)
    for look in profile.cold.memory:
        counted = {"resident, own": look.resident - look.files, "mapped files": look.files}
        yield {"name": "memory", "ph": "C", "ts": look.at * 1e6, "pid": COLD, "tid": 0, "args": counted}


def _run(profile: Profile) -> Iterator[dict[str, Any]]:
    yield _name("process_name", RUN, 0, f"{profile.title}: a warm run")
    for track, number in TRACKS.items():
        yield _name("thread_name", RUN, number, track)
    for event in profile.events:
        yield _complete(event.name, event.track, event.start, event.end, RUN, TRACKS[event.track])


def _name(kind: str, process: int, thread: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "ts": 0, "pid": process, "tid": thread, "args": {"name": name}}


def _complete(name: str, category: str, start: float, end: float, process: int, thread: int) -> dict[str, Any]:
    times = {"ts": start * 1e6, "dur": (end - start) * 1e6}
    return {"name": name, "cat": category, "ph": "X", **times, "pid": process, "tid": thread, "args": {}}
