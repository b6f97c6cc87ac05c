"""Finds the reference data of the original implementations; tests skip, saying so, where it is absent."""

import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

ROOT = Path(os.environ.get("X2I_GOLDENS", Path(__file__).parents[2] / "shared" / "goldens"))
READ: dict[str, set[str]] = {}
"""Goldens by the test that read them."""


def golden(name: str) -> Path:
    """The path of one golden file or folder, such as `gluegen/samplers/plms_10.safetensors`."""
    path = ROOT / name
    if not path.exists():
        pytest.skip(f"golden {name} is not here (looked in X2I_GOLDENS or ../shared/goldens)")
    READ.setdefault(current_test(), set()).add(name)
    return path


def current_test() -> str:
    return os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]


def golden_tensors(name: str) -> dict[str, np.ndarray]:
    return load_file(golden(name))


def golden_arrays(name: str) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` golden."""
    with np.load(golden(name), allow_pickle=False) as arrays:
        return dict(arrays)
