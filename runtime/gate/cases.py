"""A case of the gate as files: what goes into a run, and what fp32 drew. Options are written and read by form."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..files.reading import read_array
from ..inputs.option import Option
from ..inputs.registry import run_options
from ..media.pictures import open_picture, several
from ..output import Output
from .record import Case

Draw = Callable[..., Output]
"""A Pipeline, or whatever takes a run's options as one does."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """`latents` float32 [1, C, h, w] and `picture` uint8 [H, W, 3]."""

    latents: np.ndarray
    picture: np.ndarray


def write_case(folder: Path, number: int, given: Mapping[str, Any]) -> Case:
    """Writes pictures, sound and noise of a run into `folder/gate/<number>` and names them in a Case.

    `given` are the prompt and options of a run, pictures as uint8 arrays and a sound as (samples, rate), and the start
    noise, float32 [1, C, h, w].
    """
    home = f"gate/{number}"
    (folder / home).mkdir(parents=True)
    known, options, rate = run_options(), {}, None
    for name, value in given.items():
        if name in ("prompt", "noise") or value is None:
            continue
        if known[name].form == "sound":
            value, rate = value
        options[name] = _written(folder, home, known[name], value)
    noise = _write_array(folder, f"{home}/noise.npy", given["noise"])
    return Case(noise, f"{home}/latents.npy", f"{home}/picture.png", given.get("prompt"), options, rate)


def case_options(case: Case, folder: Path) -> dict[str, Any]:
    """What `Pipeline` takes for a case whose files lie below `folder`; what the case leaves alone is left out.

    Raises InputError for files that cannot be read.
    """
    known = run_options()
    given: dict[str, Any] = {} if case.prompt is None else {"prompt": case.prompt}
    for name, value in case.options.items():
        if known[name].form == "sound":
            given[name] = _read_array(folder / value), case.rate
        elif known[name].form == "picture":
            given[name] = [folder / file for file in value] if known[name].several else folder / value
        elif not known[name].is_default(value):
            given[name] = value
    return given | {"noise": _read_array(folder / case.noise)}


def draw_case(pipeline: Draw, case: Case, folder: Path) -> Drawing:
    """Runs a case whose files lie below `folder`; raises InputError where it cannot be drawn."""
    output = pipeline(**case_options(case, folder))
    return Drawing(output.latents, np.asarray(output.images[0]))


def stored_drawing(case: Case, folder: Path) -> Drawing:
    """What fp32 drew; raises InputError where it cannot be read."""
    return Drawing(_read_array(folder / case.latents), np.asarray(open_picture(folder / case.picture, "gate").image))


def _written(folder: Path, home: str, option: Option, value: Any) -> Any:
    """What stands for a value in the manifest: itself, or the files that hold it."""
    if option.form == "sound":
        return _write_array(folder, f"{home}/{option.name}.npy", value)
    if option.form != "picture":
        return value
    if not option.several:
        return _write_picture(folder, f"{home}/{option.name}.png", value)
    pictures: Sequence[Any] = several(value)
    return tuple(
        _write_picture(folder, f"{home}/{option.name}-{number}.png", picture) for number, picture in enumerate(pictures)
    )


def _write_picture(folder: Path, name: str, picture: np.ndarray) -> str:
    Image.fromarray(picture).save(folder / name)
    return name


def _write_array(folder: Path, name: str, array: np.ndarray) -> str:
    np.save(folder / name, array)
    return name


def _read_array(path: Path) -> np.ndarray:
    return read_array(path, "an array of the gate")
