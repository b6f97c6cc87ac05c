"""DDCap's goldens: each tiny checkpoint with what its networks gave."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from x2i.models.token_transformers.ddcap import Ddcap
from x2i.models.token_transformers.ddcap_checkpoint import read_ddcap

from tests.goldens import FULL, golden, golden_arrays

FOLDER = "ddcap"
CHECKPOINTS = {path.parent.name: path.name for path in sorted((FULL / FOLDER).glob("*/*.pt"))}
TAGS = list(CHECKPOINTS)
"""A folder for each checkpoint, none where the full set is not here."""
CASES: dict[str, dict[str, Any]] = (
    json.loads((FULL / FOLDER / "cases.json").read_text("utf-8")) if (FULL / FOLDER / "cases.json").is_file() else {}
)
"""The runs by their names."""


def checkpoint(tag: str) -> Path:
    return golden(f"{FOLDER}/{tag}/{CHECKPOINTS[tag]}")


@cache
def model(tag: str) -> Ddcap:
    return read_ddcap(checkpoint(tag))


def networks(tag: str) -> dict[str, np.ndarray]:
    """The arrays of one checkpoint's networks."""
    arrays = golden_arrays(f"{FOLDER}/networks.npz")
    return {name.removeprefix(f"{tag}_"): array for name, array in arrays.items() if name.startswith(f"{tag}_")}
