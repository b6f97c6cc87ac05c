"""How long earlier builds took on this machine and how much memory, in one small file: what an estimate is made of."""

import contextlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

from ..cache_folder import cache_folder
from ..errors import InputError
from ..records import decode, encode

_KEPT = 200


@dataclass(frozen=True, slots=True)
class Build:
    """One finished build: the library, the graph's name, precision and bytes, and what it took."""

    library: str
    graph: str
    precision: str
    graph_bytes: int
    seconds: float
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class _Builds:
    builds: tuple[Build, ...] = ()


def history_file() -> Path:
    """In the user's cache folder."""
    return cache_folder() / "builds.json"


def past_builds(file: Path | None = None) -> tuple[Build, ...]:
    """What is remembered; nothing where the file is missing or damaged."""
    with contextlib.suppress(OSError, ValueError, InputError):
        return decode(_Builds, json.loads((file or history_file()).read_text("utf-8")), "builds.json").builds
    return ()


def remember(build: Build, file: Path | None = None) -> None:
    """Adds a build, and forgets the oldest; a cache folder that cannot be written loses only the estimate."""
    file = file or history_file()
    kept = (*past_builds(file), build)[-_KEPT:]
    part = file.with_suffix(f".{os.getpid()}.part")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(encode(_Builds(kept)), indent=1) + "\n", encoding="utf-8")
        part.replace(file)


def likely_seconds(library: str, graph: str, precision: str, graph_bytes: int, past: tuple[Build, ...]) -> float | None:
    """How long a build will take, from the build that is most like it; None where this library has built nothing yet.

    Most like it is the graph of the same name, then the same precision, then the nearest size, then the latest. The
    time grows as the square root of the size: a graph of 80 times the bytes took ten times as long.
    """
    known = [build for build in past if build.library == library and build.graph_bytes > 0]
    if not known or graph_bytes <= 0:
        return None

    def distance(build: Build) -> tuple[bool, bool, float]:
        size = abs(math.log(build.graph_bytes / graph_bytes))
        return build.graph != graph, build.precision != precision, size

    nearest = min(reversed(known), key=distance)
    return nearest.seconds * math.sqrt(graph_bytes / nearest.graph_bytes)
