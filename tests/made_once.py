"""What is slow to make and only read: made by the first of the test processes that wants it, found by the others."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The file or folder that `make(path)` leaves at the path it is given."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    path = base / name
    with FileLock(f"{path}.lock"):
        if not path.exists():
            make(path)
    return path
