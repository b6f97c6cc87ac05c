"""Draws one case of the gate, and reads what fp32 drew."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..given_files import reason
from ..pictures import open_picture
from ..pipeline import Output
from .record import Case

Draw = Callable[..., Output]
"""A Pipeline, or whatever takes a run's options as one does."""
OWN = ("noise", "latents", "picture", "rate")
PICTURES = ("subject", "mask")
SEVERAL = ("image", "subjects")


@dataclass(frozen=True, slots=True)
class Drawing:
    """`latents` float32 [1, C, h, w] and `picture` uint8 [H, W, 3]."""

    latents: np.ndarray
    picture: np.ndarray


def draw(pipeline: Draw, case: Case, folder: Path) -> Drawing:
    """Runs a case whose files lie below `folder`; raises InputError where it cannot be drawn."""
    output = pipeline(**options(case, folder))
    return Drawing(output.latents, np.asarray(output.images[0]))


def stored(case: Case, folder: Path) -> Drawing:
    """What fp32 drew."""
    return Drawing(_array(folder / case.latents), np.asarray(open_picture(folder / case.picture, "gate").image))


def options(case: Case, folder: Path) -> dict[str, Any]:
    """What `Pipeline` takes for a case; what the case leaves alone is left out."""
    given = {
        field.name: value
        for field in fields(Case)
        if field.name not in OWN and (value := getattr(case, field.name)) != field.default
    }
    given |= {name: folder / given[name] for name in PICTURES if name in given}
    given |= {name: [folder / file for file in given[name]] for name in SEVERAL if name in given}
    if case.sound is not None:
        given["sound"] = _array(folder / case.sound), case.rate
    return given | {"noise": _array(folder / case.noise)}


def _array(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{path}: expected an array of the gate, got {reason(error)}; export the bundle again"
        ) from error
