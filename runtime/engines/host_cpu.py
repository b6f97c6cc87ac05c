"""The CPU of this machine, told so closely that what was prepared for another one is never taken for its own."""

import hashlib
from functools import cache
from pathlib import Path

_TOLD = Path("/proc/cpuinfo")


def problem() -> str | None:
    """Why nothing can be prepared for this machine's CPU, in one line; None where it can."""
    if identity() is None:
        return f"needs {_TOLD}, which tells what the CPU can do, and which this system does not have"
    return None


@cache
def identity() -> str | None:
    """The CPU's model and a digest of all its abilities, such as `Some CPU @ 2 GHz 1f0c...`; None if not told."""
    try:
        first, _, _ = _TOLD.read_text("utf-8", errors="replace").partition("\n\n")
    except OSError:
        return None
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())}
    abilities = " ".join(sorted(fields.get("flags", fields.get("Features", "")).split()))
    if not abilities:
        return None
    told = [fields.get(name, "") for name in ("model name", "CPU implementer", "CPU part", "model", "stepping")]
    digest = hashlib.sha256(" ".join([*told, abilities]).encode()).hexdigest()
    return f"{told[0] or 'CPU'} {digest[:16]}"
