"""What a build will take - time, memory, disk - from earlier builds on this machine, and whether there is room."""

import contextlib
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

from .. import machine
from ..bundle.records import Amount, Bytes, decode, encode
from ..errors import InputError
from ..files.cache import cache_folder, remember, remembered

_MAX_BUILDS = 200
"""Builds that are remembered."""


@dataclass(frozen=True, slots=True)
class PastBuild:
    """One finished build: the library, the graph's name, precision and bytes, and what it took."""

    library: str
    graph: str
    precision: str
    graph_bytes: Bytes
    seconds: Amount
    peak_bytes: Bytes


@dataclass(frozen=True, slots=True)
class _Builds:
    builds: tuple[PastBuild, ...] = ()


def history_file() -> Path:
    """In the user's cache folder."""
    return cache_folder() / "builds.json"


def past_builds(file: Path | None = None) -> tuple[PastBuild, ...]:
    """What is remembered; nothing where the file is missing or damaged."""
    with contextlib.suppress(InputError):
        return decode(_Builds, remembered(file or history_file()), "builds.json").builds
    return ()


def remember_build(build: PastBuild, file: Path | None = None) -> None:
    """Adds a build, and forgets the oldest; a cache folder that cannot be written loses only the estimate."""
    file = file or history_file()
    remember(file, encode(_Builds((*past_builds(file), build)[-_MAX_BUILDS:])))


def likely_seconds(
    library: str, graph: str, precision: str, graph_bytes: int, past: tuple[PastBuild, ...]
) -> float | None:
    """How long a build will take, from the build that is most like it; None where this library has built nothing yet.

    Most like it is the graph of the same name, then the same precision, then the nearest size, then the latest. The
    time grows as the square root of the size: a graph of 80 times the bytes took ten times as long.
    """
    known = [build for build in past if build.library == library and build.graph_bytes > 0]
    if not known or graph_bytes <= 0:
        return None

    def distance(build: PastBuild) -> tuple[bool, bool, float]:
        size = abs(math.log(build.graph_bytes / graph_bytes))
        return build.graph != graph, build.precision != precision, size

    nearest = min(reversed(known), key=distance)
    return nearest.seconds * math.sqrt(graph_bytes / nearest.graph_bytes)


# Measured with TensorRT-RTX 1.7: 0.55 GB for a graph of 21 MB, 5.85 GB for one of 1.72 GB.
_MIN_BUILD_BYTES, _BUILD_BYTES_PER_GRAPH_BYTE = 500_000_000, 3.5
# And its engines: 32 MB, and 1.74 GB.
_MIN_ENGINE_BYTES, _ENGINE_BYTES_PER_GRAPH_BYTE = 16_000_000, 1.1


def check_room(needed: int, disk: int, folder: Path) -> None:
    """Raises InputError where fewer than `needed` bytes of memory, or `disk` bytes where `folder` is, are free."""
    problems = []
    free = machine.available_memory()
    if free is not None and free < needed:
        problems.append(
            f"building needs about {_gigabytes(needed)} of memory, {_gigabytes(free)} are free; close other "
            "programs, raise the container's limit, or build on a larger machine"
        )
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if (left := shutil.disk_usage(there).free) < disk:
        problems.append(
            f"the engine needs about {_gigabytes(disk)} of disk in {folder}, {_gigabytes(left)} are free; make "
            "room, or move the bundle to a larger disk"
        )
    if problems:
        raise InputError(*problems)


def needed_memory(library: str, graph_bytes: int, past: tuple[PastBuild, ...]) -> int:
    """Bytes that building an engine takes: what it took last time, or an estimate from the graph's size."""
    known = [build.peak_bytes for build in past if (build.library, build.graph_bytes) == (library, graph_bytes)]
    return known[-1] if known else _MIN_BUILD_BYTES + round(_BUILD_BYTES_PER_GRAPH_BYTE * graph_bytes)


def needed_disk(graph_bytes: int) -> int:
    """Bytes that an engine takes, estimated from the graph's size."""
    return _MIN_ENGINE_BYTES + round(_ENGINE_BYTES_PER_GRAPH_BYTE * graph_bytes)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
