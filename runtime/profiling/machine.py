"""This machine and this installation, in words."""

import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .record import Machine

PACKAGES = ("x2i-edge", "numpy", "onnxruntime", "openvino", "tensorrt-rtx", "tensorrt")
FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "i8mm")


def this_machine() -> Machine:
    facts = _facts()
    flags = facts.get("flags", facts.get("Features", "")).split()
    return Machine(
        facts.get("model name") or platform.processor() or platform.machine(),
        usable_cores(),
        tuple(name for name in FEATURES if name in flags),
        _memory(),
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        _versions(),
        os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    )


def usable_cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _facts() -> dict[str, str]:
    """The first of each fact that Linux tells of its processors."""
    facts: dict[str, str] = {}
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            facts.setdefault(name.strip(), value.strip())
    return facts


def _memory() -> int | None:
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
