"""What every command does at the terminal: refuses bad input in one line a problem, tells warnings and the backend."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

from ..load import backend_of_environment
from ..pipeline import Pipeline


class Refusal(click.ClickException):
    """Ends a command with exit code 2 and the lines of `message`."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Prints a line for every problem, on stderr."""
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
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", category)
        yield
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        click.echo(f"x2i: warning: {message}", err=True)


def announce(pipeline: Pipeline, backend: str | None) -> None:
    """Where the choice of a backend was left to us, a line that says what was chosen, after one for each better backend
    that cannot be used."""
    if (backend or backend_of_environment()) is None:
        for note in (*pipeline.notes, f"on {pipeline.backend}"):
            click.echo(f"x2i: {note}", err=True)
