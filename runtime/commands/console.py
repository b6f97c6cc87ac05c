"""What every command does at the terminal: refuses bad input in one line a problem, tells warnings and the backend."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click

from ..load import backend_of_environment, load
from ..pipeline import Pipeline


class Refusal(click.ClickException):
    """Ends a command with exit code 2 and the lines of `message`."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        for line in self.message.splitlines():
            click.echo(f"x2i: error: {line}", file=file, err=True)


@contextmanager
def refusing(*errors: type[Exception]) -> Iterator[None]:
    """Turns the rooms' boundary errors into a Refusal."""
    try:
        yield
    except errors as error:
        raise Refusal(str(error)) from error


@contextmanager
def warned(category: type[Warning] = UserWarning) -> Iterator[None]:
    """A line on stderr for every warning of a category, once the work is done; others are not told."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", category)
        yield
    for message in dict.fromkeys(str(warning.message) for warning in told):
        click.echo(f"x2i: warning: {message}", err=True)


def load_announced(
    bundle: Path,
    backend: str | None,
    threads: int | None = None,
    text_bundle: Path | None = None,
    preset: str | None = None,
    max_memory: str | None = None,
) -> Pipeline:
    """`load`, with a line for what it warns of. Where the choice was left to us, another says what was chosen, after
    one for each better backend that cannot be used."""
    with warned():
        pipeline = load(bundle, backend, threads, text_bundle=text_bundle, preset=preset, max_memory=max_memory)
    if (backend or backend_of_environment()) is None:
        for note in (*pipeline.notes, f"on {pipeline.backend}"):
            click.echo(f"x2i: {note}", err=True)
    return pipeline
