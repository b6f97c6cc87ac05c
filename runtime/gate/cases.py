"""A case of the gate as files: what goes into a run, and what fp32 drew. Options are written and read by form."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import InputError
from ..files.reading import read_array
from ..inputs.option import Option
from ..inputs.registry import run_options
from ..media.pictures import open_picture, several
from ..output import Output
from ..pipeline import Pipeline
from .record import Case

Draw = Callable[..., Output]
"""A Pipeline, or whatever takes a run's options as one does."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """`latents` float32 [1, C, h, w], or of a walk through tokens their `states` after each step, int64 [steps,
    length]; and the `picture`, uint8 [H, W, 3], None where none is drawn."""

    latents: np.ndarray | None
    picture: np.ndarray | None
    states: np.ndarray | None = None


def write_case(folder: Path, number: int, given: Mapping[str, Any], gives_picture: bool = True) -> Case:
    """Writes pictures, sound, arrays and noise of a run into `folder/gate/<number>` and names them in a Case.

    `given` are the prompt and options of a run, pictures as uint8 arrays and a sound as (samples, rate), and for
    latents the start noise, float32 [1, C, h, w]. `gives_picture` says whether a run draws one.
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
    picture = f"{home}/picture.png" if gives_picture else None
    beside: dict[str, Any] = {"picture": picture, "prompt": given.get("prompt"), "options": options, "rate": rate}
    if "noise" not in given:
        return Case(states=f"{home}/states.npy", **beside)
    return Case(_write_array(folder, f"{home}/noise.npy", given["noise"]), f"{home}/latents.npy", **beside)


def case_options(case: Case, folder: Path) -> dict[str, Any]:
    """What `Pipeline` takes for a case whose files lie below `folder`; what the case leaves alone is left out.

    Raises InputError for files that cannot be read.
    """
    known = run_options()
    given: dict[str, Any] = {} if case.prompt is None else {"prompt": case.prompt}
    for name, value in case.options.items():
        if known[name].form == "sound":
            given[name] = _read_array(folder / value), case.rate
        elif known[name].form == "array":
            given[name] = _read_array(folder / value)
        elif known[name].form == "picture":
            given[name] = [folder / file for file in value] if known[name].several else folder / value
        elif not known[name].is_default(value):
            given[name] = value
    return given if case.noise is None else given | {"noise": _read_array(folder / case.noise)}


def draw_case(pipeline: Pipeline, case: Case, folder: Path, states: np.ndarray | None = None) -> Drawing:
    """Runs a case whose files lie below `folder`; raises InputError where it cannot be drawn.

    A walk through tokens begins each step at the state of `states`, int64 [steps, length], and so does the picture;
    without them at its own.
    """
    options = case_options(case, folder)
    if case.states is None:
        output = pipeline(**options)
        return Drawing(output.latents, np.asarray(output.images[0]))
    walk, step = pipeline.steps(**options), None
    reached: list[np.ndarray] = []
    while True:
        try:
            step = walk.send(None if states is None or not reached else states[len(reached) - 1][None])
        except StopIteration:
            break
        assert step.tokens is not None, "a step of tokens without tokens"
        reached.append(step.tokens[0])
        if states is not None and len(reached) > len(states):
            raise InputError(f"gate: expected a run of {len(states)} steps as fp32 drew it, got more; export again")
    assert step is not None, "a run without a step"
    last = step if states is None else replace(step, tokens=states[-1:])
    images = walk.finish(last).images if case.picture is not None else []
    return Drawing(None, np.asarray(images[0]) if images else None, np.stack(reached))


def stored_drawing(case: Case, folder: Path) -> Drawing:
    """What fp32 drew; raises InputError where it cannot be read."""
    latents, states = (None if name is None else _read_array(folder / name) for name in (case.latents, case.states))
    picture = None if case.picture is None else np.asarray(open_picture(folder / case.picture, "gate").image)
    return Drawing(latents, picture, states)


def store_drawing(drawn: Drawing, case: Case, folder: Path) -> None:
    """Writes what fp32 drew where the case names it."""
    for name, array in ((case.latents, drawn.latents), (case.states, drawn.states)):
        if name is not None and array is not None:
            np.save(folder / name, array)
    if case.picture is not None and drawn.picture is not None:
        Image.fromarray(drawn.picture).save(folder / case.picture)


def _written(folder: Path, home: str, option: Option, value: Any) -> Any:
    """What stands for a value in the manifest: itself, or the files that hold it."""
    if option.form in ("sound", "array"):
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
