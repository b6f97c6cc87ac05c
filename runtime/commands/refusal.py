"""How every command refuses bad input: one line per problem on stderr, exit code 2."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click


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
