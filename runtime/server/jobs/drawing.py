"""Draws what a job asks for, and tells what happens on the way."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from threading import Event
from typing import Any

from PIL import Image

from ...errors import InputError
from ...media.parameters import Parameters
from ...output import Output, Sound, Step, save_picture, save_sound
from ..models.bundles import ServedBundle, ServedBundles
from .job import Call, PictureFormat, Result, ResultFile

Tell = Callable[[str, dict[str, Any]], object]
"""(the event's name, its data) -> nothing that matters."""


class StoppedError(Exception):
    """A drawing whose job was cancelled, or took too long."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a call gave, and the `seconds` of each of its steps."""

    result: Result
    seconds: tuple[float, ...]


def draw_call(bundles: ServedBundles, asked: Call, stop: Event, tell: Tell) -> Drawn:
    """Draws on this thread. `stop` ends it within one step, by StoppedError. Raises InputError for bad input. Neither
    that nor a warning names the folder of the files that came with the call."""
    try:
        return _drawn(bundles, asked, stop, tell)
    except InputError as error:
        raise InputError(*(_without_folders(problem, asked) for problem in error.problems)) from error


def _drawn(bundles: ServedBundles, asked: Call, stop: Event, tell: Tell) -> Drawn:
    with bundles.using(asked.bundle) as (served, pipeline):
        _check(stop)
        walk = pipeline.steps(asked.prompt, **asked.options)
        with served.shared.walking():
            last = None
            for last in walk:
                _report(last, asked, tell)
                if stop.is_set():
                    walk.close()
                _check(stop)
        assert last is not None, "a run without a step"
        output = walk.finish(last)
        seconds = tuple(span.seconds for span in output.spans if span.name == "denoise")
        return Drawn(_result(output, asked, served), seconds)


def _check(stop: Event) -> None:
    if stop.is_set():
        raise StoppedError


def _report(step: Step, asked: Call, tell: Tell) -> None:
    done = step.index + 1
    tell("step", {"step": done, "steps": step.count})
    if done in preview_steps(asked.previews, step.count):
        shown = step.preview()
        pictures = [data_url(each, asked.picture_format) for each in shown if isinstance(each, Image.Image)]
        texts = [each for each in shown if isinstance(each, str)]
        tell("preview", {"step": done, "steps": step.count, "pictures": pictures, "texts": texts})


def preview_steps(previews: int, steps: int) -> set[int]:
    """After which of the steps 1 to `steps` a preview is shown: evenly between them, and not after the last, which is
    the picture itself."""
    return {round(number * steps / (previews + 1)) for number in range(1, previews + 1)} & set(range(1, steps))


def data_url(image: Image.Image, form: PictureFormat) -> str:
    """A picture inside an address."""
    return f"data:{form.media_type};base64,{base64.b64encode(_encoded(image, form)).decode()}"


def _result(output: Output, asked: Call, served: ServedBundle) -> Result:
    form = asked.picture_format
    suffix = {"jpeg": "jpg"}.get(form.name, form.name)
    pictures = tuple(
        ResultFile(
            f"picture-{number}.{suffix}",
            form.media_type,
            _encoded(image, form, parameters),
            {"width": image.width, "height": image.height},
        )
        for number, (image, parameters) in enumerate(zip(output.images, output.parameters, strict=True), 1)
    )
    sounds = tuple(_sound_file(number, sound) for number, sound in enumerate(output.sounds, 1))
    only_tokens = served.bundle.manifest.plan.process.gives == ("tokens",)
    tokens = output.tokens.tolist() if only_tokens and output.tokens is not None else None
    warnings = tuple(dict.fromkeys((*asked.notes, *(_without_folders(line, asked) for line in output.warnings))))
    return Result(pictures, sounds, tuple(output.texts), tokens, warnings, output.timings)


def _without_folders(line: str, asked: Call) -> str:
    """A line without the place of uploaded files, which is the server's own."""
    given = (each if isinstance(each, list) else [each] for each in asked.options.values())
    for folder in {path.parent for paths in given for path in paths if isinstance(path, Path)}:
        line = line.replace(f"{folder}/", "")
    return line


def _sound_file(number: int, sound: Sound) -> ResultFile:
    stream = BytesIO()
    save_sound(sound, stream)
    facts = {"rate": sound.rate, "seconds": round(sound.seconds, 3)}
    return ResultFile(f"sound-{number}.wav", "audio/wav", stream.getvalue(), facts)


def _encoded(image: Image.Image, form: PictureFormat, parameters: Parameters | None = None) -> bytes:
    stream = BytesIO()
    save_picture(image, f".{form.name}", stream, parameters, form.quality)
    return stream.getvalue()
