"""What this machine is and has: CPU, memory, versions."""

import hashlib
import os
import platform
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


def cpu_problem() -> str | None:
    """Why nothing can be prepared for this machine's CPU, in one line; None where it can."""
    if cpu_identity() is None:
        return f"needs {_CPUINFO}, which tells what the CPU can do, and which this system does not have"
    return None


@cache
def cpu_identity() -> str | None:
    """The CPU's model and a digest of all its abilities, such as `Some CPU @ 2 GHz 1f0c...`; None if not told."""
    try:
        first, _, _ = _CPUINFO.read_text("utf-8", errors="replace").partition("\n\n")
    except OSError:
        return None
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())}
    abilities = " ".join(sorted(fields.get("flags", fields.get("Features", "")).split()))
    if not abilities:
        return None
    told = [fields.get(name, "") for name in ("model name", "CPU implementer", "CPU part", "model", "stepping")]
    digest = hashlib.sha256(" ".join([*told, abilities]).encode()).hexdigest()
    return f"{told[0] or 'CPU'} {digest[:16]}"


_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


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


def processor() -> str:
    """The processor's name and its cores, as the system tells them."""
    with open("/proc/cpuinfo", encoding="utf-8") as stream:
        model = next((line.partition(":")[2].strip() for line in stream if line.startswith("model name")), "")
    return f"{model or platform.machine()}, {os.cpu_count()} cores"


def versions(packages: Iterable[str]) -> str:
    """Python's version, and those of the packages that are installed."""
    found = [f"Python {platform.python_version()}"]
    for name in packages:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
