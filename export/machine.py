"""What a measurement ran on."""

import os
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version


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
