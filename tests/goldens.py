"""Finds the reference data of the original implementations; tests skip, saying so, where it is absent."""

import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

ROOT = Path(os.environ.get("X2I_GOLDENS", Path(__file__).parents[2] / "shared" / "goldens"))


def golden(name: str) -> Path:
    """The path of one golden file or folder, such as `gluegen/samplers/plms_10.safetensors`."""
    path = ROOT / name
    if not path.exists():
        pytest.skip(f"golden {name} is not here (looked in X2I_GOLDENS or ../shared/goldens)")
    return path


def golden_tensors(name: str) -> dict[str, np.ndarray]:
    return load_file(golden(name))
