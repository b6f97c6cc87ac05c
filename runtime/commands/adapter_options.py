"""The options of `x2i run` that only some bundles take."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..placeholder import PLACEMENTS

FILE = click.Path(path_type=Path)

OPTIONS = (
    click.option("--subject", type=FILE, help="Picture of the subject."),
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
    click.option(
        "--strength", type=float, help="How much the picture adds; 0 adds nothing. The bundle's own if left out."
    ),
)


def adapter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds them all to a command, in this order."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command
