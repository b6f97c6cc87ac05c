"""Writes the inputs of a case of the gate into a bundle."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from x2i.runtime.gate.record import Case

PICTURES = ("subject", "mask")
SEVERAL = ("image", "subjects")


def write_case(folder: Path, number: int, options: dict[str, Any]) -> Case:
    """Writes pictures, sound and noise of a run into `folder/gate/<number>` and names them in a Case."""
    home = f"gate/{number}"
    (folder / home).mkdir(parents=True)
    named = {name: value for name, value in options.items() if value is not None}
    named["noise"] = _array(folder, f"{home}/noise.npy", named["noise"])
    for name in PICTURES:
        if name in named:
            named[name] = _picture(folder, f"{home}/{name}.png", named[name])
    for name in SEVERAL:
        if name in named:
            named[name] = _pictures(folder, f"{home}/{name}", named[name])
    if "sound" in named:
        samples, named["rate"] = named["sound"]
        named["sound"] = _array(folder, f"{home}/sound.npy", samples)
    return Case(latents=f"{home}/latents.npy", picture=f"{home}/picture.png", **named)


def _pictures(folder: Path, stem: str, pictures: np.ndarray | Sequence[np.ndarray]) -> tuple[str, ...]:
    several = [pictures] if isinstance(pictures, np.ndarray) else pictures
    return tuple(_picture(folder, f"{stem}-{k}.png", picture) for k, picture in enumerate(several))


def _picture(folder: Path, name: str, picture: np.ndarray) -> str:
    Image.fromarray(picture).save(folder / name)
    return name


def _array(folder: Path, name: str, array: np.ndarray) -> str:
    np.save(folder / name, array)
    return name
