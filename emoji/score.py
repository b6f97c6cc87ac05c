"""What the judges of the embedded models share: their options, which drawings they ask for, how they count them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from .world.judge import Verdict
from .world.vocabulary import backgrounds

OPTIONS = (
    click.option("--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Folder."),
    click.option("--steps", type=int, help="Denoising steps; the bundle's own if left out."),
    click.option("--guidance", type=float, help="Guidance scale; the bundle's own if left out."),
    click.option("--sampler", help="Sampler; the bundle's own if left out."),
)


def judging(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds a judge's options to a command: the folder of bundles and sheets, and how to sample."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@dataclass(slots=True)
class Score:
    """Counts over a set of drawings."""

    drawn: int = 0
    picture: int = 0
    background: int = 0

    def add(self, verdict: Verdict, key: str, background: str) -> None:
        """Counts one drawing, of which `key` on `background` was asked."""
        self.drawn += 1
        self.picture += verdict.key == key
        self.background += verdict.background == background

    def __str__(self) -> str:
        return f"{self.picture / self.drawn:8.1%} {self.background / self.drawn:12.1%} {self.drawn:9}"


def asked(keys: Sequence[str], each: int) -> Iterator[tuple[str, str, int]]:
    """Every key on `each` backgrounds that move on from key to key, and a number of its own for each drawing."""
    colours = [background.key for background in backgrounds()]
    for index, key in enumerate(keys):
        for offset in range(each):
            yield key, colours[(index + offset) % len(colours)], index * len(colours) + offset
