"""Options that several commands share."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..errors import InputError
from ..inputs.mix import MIX
from ..inputs.word import PLACEMENTS


class Size(click.ParamType):
    """HEIGHTxWIDTH in pixels."""

    name = "HxW"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> tuple[int, int]:
        match = re.fullmatch(r"(\d+)x(\d+)", value)
        if match is None:
            self.fail(f"expected HEIGHTxWIDTH in pixels such as 512x768, got {value!r}", parameter, context)
        return int(match[1]), int(match[2])


FILE = click.Path(path_type=Path)
OPTIONS = (
    click.option(
        "--subject",
        type=FILE,
        multiple=True,
        help="Picture of the subject; once for each marked noun, in their order, where the bundle draws several.",
    ),
    click.option("--marker", help="What stands behind each subject's noun in the prompt."),
    click.option(
        "--delay",
        "alpha",
        type=float,
        help="Share of the run, at its end, that sees the subjects (the authors' alpha).",
    ),
    click.option("--start-merge-step", type=int, help="Instead: the last UNet call that sees the text alone, from 0."),
    click.option("--object-resolution", type=int, help="Pixels that the subjects' pictures are scaled to first."),
    click.option(
        "--mask", type=FILE, help="The subject's mask, white on black, of the picture's size; all of it if left out."
    ),
    click.option("--soft-mask", is_flag=True, help="Weight by the mask's greys instead of cutting at its edge."),
    click.option("--word", help="Placeholder word that stands for the subject in the prompt."),
    click.option(
        "--placement",
        type=click.Choice(PLACEMENTS),
        default=PLACEMENTS[0],
        show_default=True,
        help="How its place is counted.",
    ),
    click.option(
        "--words", type=int, default=1, show_default=True, help="Subject's embeddings; above 1 with --global-only."
    ),
    click.option("--global-only", is_flag=True, help="Leave the subject's patches out."),
    click.option("--image", type=FILE, multiple=True, help="Reference picture; may be given several times."),
    click.option("--sound", type=FILE, help="Sound file to draw."),
    click.option("--text-bundle", type=FILE, help="Bundle of the same base that reads PROMPT, to mix with the sound."),
    click.option("--mix", type=int, help=f"Tokens that sound and prompt each keep at the front, {MIX} if left out."),
    click.option(
        "--strength", type=float, help="How much the picture adds; 0 adds nothing. The bundle's own if left out."
    ),
)


def adapter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds them all to a command, in this order."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def pictures_for(taken: set[str], subject: tuple[Path, ...], image: tuple[Path, ...]) -> dict[str, Any]:
    """The pictures, as options of a plan that takes the options `taken`. Raises InputError for a subject too many."""
    given: dict[str, Any] = {"image": list(image) or None}
    if "subjects" in taken:
        return given | {"subjects": list(subject)}
    if len(subject) > 1 and "subject" in taken:
        raise InputError(f"subject: expected one picture at most, got {len(subject)}; leave the others out")
    return given | {"subject": subject[0] if subject else None}
