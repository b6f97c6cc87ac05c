"""What a build needs of memory and disk, and what the machine has left."""

import shutil
from contextlib import suppress
from pathlib import Path

from ..errors import InputError
from .history import Build

# Measured with TensorRT-RTX 1.7: 0.55 GB for a graph of 21 MB, 5.85 GB for one of 1.72 GB.
_AT_LEAST, _TIMES_THE_GRAPH = 500_000_000, 3.5
# And its engines: 32 MB, and 1.74 GB.
_ENGINE_AT_LEAST, _ENGINE_TIMES_THE_GRAPH = 16_000_000, 1.1
_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def check_room(needed: int, disk: int, folder: Path) -> None:
    """Raises InputError where fewer than `needed` bytes of memory, or `disk` bytes where `folder` is, are free."""
    problems = []
    free = available_memory()
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


def needed_memory(library: str, graph_bytes: int, past: tuple[Build, ...]) -> int:
    """Bytes that building an engine takes: what it took last time, or an estimate from the graph's size."""
    known = [build.peak_bytes for build in past if (build.library, build.graph_bytes) == (library, graph_bytes)]
    return known[-1] if known else _AT_LEAST + round(_TIMES_THE_GRAPH * graph_bytes)


def needed_disk(graph_bytes: int) -> int:
    """Bytes that an engine takes, estimated from the graph's size."""
    return _ENGINE_AT_LEAST + round(_ENGINE_TIMES_THE_GRAPH * graph_bytes)


def peak_bytes() -> int:
    """The most memory that this process has had; 0 where the system does not tell."""
    with suppress(OSError):
        # What getrusage tells on Linux may be the process's that started this one.
        lines = (_PROC / "self" / "status").read_text("ascii", errors="replace").splitlines()
        if found := [line for line in lines if line.startswith("VmHWM:")]:
            return int(found[0].split()[1]) * 1024
    with suppress(ImportError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 0


def available_memory(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int | None:
    """Bytes that can be used without swapping: the system's, or what is left under the limit of a container.

    None where the system does not tell, as outside Linux.
    """
    try:
        lines = (proc / "meminfo").read_text("ascii").splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    if "MemAvailable" not in fields:
        return None
    free = int(fields["MemAvailable"].split()[0]) * 1024
    return min([free, *(left for folder in _groups(proc, cgroups) if (left := _left(folder)) is not None)])


def _groups(proc: Path, cgroups: Path) -> list[Path]:
    """The folders of this process's control groups, with those above them: each may set a limit."""
    try:
        lines = (proc / "self" / "cgroup").read_text("ascii").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        root = cgroups if not controllers else cgroups / "memory"
        if not controllers or "memory" in controllers.split(","):
            folder = root / path.strip("/")
            found += [group for group in (folder, *folder.parents) if group.is_relative_to(root)]
    return found


def _left(group: Path) -> int | None:
    """Bytes left under one group's limit, cached files counted as free; None where it sets no limit."""
    for limit, usage in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        most, used = _number(group / limit), _number(group / usage)
        if most is not None and used is not None:
            return max(0, most - used + _cached(group / "memory.stat"))
    return None


def _cached(stat: Path) -> int:
    try:
        fields = dict(line.split() for line in stat.read_text("ascii").splitlines())
    except (OSError, ValueError):
        return 0
    return int(fields.get("inactive_file", 0))


def _number(path: Path) -> int | None:
    """None for `max` and for a file that is not there."""
    try:
        text = path.read_text("ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
