"""What this machine is and has: its processor, its memory, and the packages that are installed.

The processor is read from /proc/cpuinfo by hand: py-cpuinfo starts processes and takes 1.5 s, where engines are looked
for whenever a bundle is opened. Memory comes from psutil where psutil knows it, and is imported when it is asked for.
"""

import hashlib
import os
import platform
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
CPU_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "i8mm")
"""The instruction sets that decide which kernels a CPU backend runs, in the words of Linux."""


def cpu_problem() -> str | None:
    """Why nothing can be prepared for this machine's CPU, in one line; None where it can."""
    if cpu_identity() is None:
        return f"needs {_CPUINFO}, which tells what the CPU can do, and which this system does not have"
    return None


@cache
def cpu_identity() -> str | None:
    """The CPU's model and a digest of all its features, such as `Some CPU @ 2 GHz 1f0c...`; None if not told.

    Engines are stored under it: another text for the same CPU would orphan every engine that was built before.
    """
    fields = _cpu_fields()
    features = " ".join(sorted(_cpu_flags(fields)))
    if not features:
        return None
    names = [fields.get(name, "") for name in ("model name", "CPU implementer", "CPU part", "model", "stepping")]
    digest = hashlib.sha256(" ".join([*names, features]).encode()).hexdigest()
    return f"{names[0] or 'CPU'} {digest[:16]}"


def cpu_model() -> str:
    """The CPU's name, such as `AMD EPYC 7763`; its architecture where the system tells no name."""
    return _cpu_fields().get("model name") or platform.processor() or platform.machine()


def cpu_features() -> tuple[str, ...]:
    """Those of `CPU_FEATURES` that this CPU has, in that order; empty where the system does not tell."""
    flags = _cpu_flags(_cpu_fields())
    return tuple(name for name in CPU_FEATURES if name in flags)


def cpu_flags() -> frozenset[str]:
    """All features of this CPU, in the words of Linux; empty where the system does not tell."""
    return frozenset(_cpu_flags(_cpu_fields()))


def usable_cores() -> int:
    """The logical cores that this process may run on, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The CPU's name and the cores that this process may run on, in words."""
    return f"{cpu_model()}, {usable_cores()} cores"


def _cpu_fields() -> dict[str, str]:
    """What Linux tells of the first core; empty elsewhere."""
    try:
        first, _, _ = _CPUINFO.read_text("utf-8", errors="replace").partition("\n\n")
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())}


def _cpu_flags(fields: dict[str, str]) -> list[str]:
    """All features, in the order of the system: `flags` on x86, `Features` on ARM."""
    return fields.get("flags", fields.get("Features", "")).split()


_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def peak_memory() -> int:
    """The most bytes of memory that this process has had; 0 where the system does not tell.

    By hand: psutil knows the peak on Windows alone, and getrusage may tell that of the process which started this one.
    """
    with suppress(OSError):
        lines = (_PROC / "self" / "status").read_text("ascii", errors="replace").splitlines()
        if found := [line for line in lines if line.startswith("VmHWM:")]:
            return int(found[0].split()[1]) * 1024
    with suppress(ImportError):
        import resource

        # In bytes on macOS, the one system that comes this far: Linux has answered, Windows has no such module.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    import psutil

    return getattr(psutil.Process().memory_info(), "peak_wset", 0)


def total_memory() -> int | None:
    """Bytes of memory that the system has, whatever a container may use of it; None where the system does not tell."""
    import psutil

    with suppress(OSError):
        return psutil.virtual_memory().total
    return None


def available_memory(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int | None:
    """Bytes that can be used without swapping: the system's, or what is left under the limit of a container.

    None where the system does not tell. psutil knows the system's alone. Inside a container that may use 4 GB of 64 GB
    it promises 64, so the limits of the control groups are read by hand.
    """
    import psutil

    with suppress(OSError):
        limits = [_left(folder) for folder in _groups(proc, cgroups)]
        return min([psutil.virtual_memory().available, *(left for left in limits if left is not None)])
    return None


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


def package_version(name: str) -> str | None:
    """The version of an installed distribution; None where it is not installed.

    ONNX Runtime comes under several names (onnxruntime-gpu, onnxruntime-directml...), and `onnxruntime` then says what
    it is itself.
    """
    try:
        return version(name)
    except PackageNotFoundError:
        pass
    if name == "onnxruntime":
        with suppress(ImportError, OSError):
            # Nothing is told by the empty folder that an uninstalled twin may leave.
            return getattr(import_module(name), "__version__", None)
    return None


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """The versions of those distributions that are installed, by their names in the given order."""
    return {name: found for name in names if (found := package_version(name)) is not None}


def versions(names: Iterable[str]) -> str:
    """Python's version and those of the distributions that are installed, in words."""
    packages = (f"{name} {found}" for name, found in package_versions(names).items())
    return ", ".join([f"Python {platform.python_version()}", *packages])
