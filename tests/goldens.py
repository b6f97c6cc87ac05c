"""Finds the reference data of the original implementations: the full set, else the small one in `tests/goldens`.

`tests/goldens/README.md` says what the small set holds. Tests that need more skip, saying so.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

FULL = Path(os.environ.get("X2I_GOLDENS") or Path(__file__).parents[2] / "shared" / "goldens").resolve()
COMMITTED = Path(__file__).parent / "goldens"
WHOLE = {"elite/model/tokenizer", "elite/model/text_encoder", "fastcomposer/base/tokenizer"}
"""Folders that the committed set has with all their files; of the others it has some, so they cannot be read whole."""
READ: dict[str, set[str]] = {}
"""Goldens by the test that read them."""


def golden(name: str) -> Path:
    """The path of one golden file or folder, such as `gluegen/samplers/plms_10.safetensors`."""
    path = found(name)
    if path is None:
        pytest.skip(f"golden {name} is of the full set, which is not here (looked in X2I_GOLDENS or ../shared/goldens)")
    return path


def found(name: str) -> Path | None:
    """The path of a golden, or nothing where it is not here."""
    small = COMMITTED / name
    for path, here in ((FULL / name, (FULL / name).exists()), (small, small.is_file() or name in WHOLE)):
        if here:
            READ.setdefault(current_test(), set()).add(name)
            return path
    return None


def current_test() -> str:
    return os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]


def golden_tensors(name: str) -> dict[str, np.ndarray]:
    return load_file(golden(name))


def golden_part(checkpoint: str, prefix: str) -> dict[str, np.ndarray]:
    """Tensors of a checkpoint in safetensors whose names begin with `prefix`, by the rest of their names.

    The committed set has them as a file of their own, beside where the checkpoint would be.
    """
    path = found(checkpoint) or golden(f"{checkpoint}.{prefix}safetensors")
    return {key.removeprefix(prefix): value for key, value in load_file(path).items() if key.startswith(prefix)}


def golden_arrays(name: str) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` golden."""
    with np.load(golden(name), allow_pickle=False) as arrays:
        return dict(arrays)
