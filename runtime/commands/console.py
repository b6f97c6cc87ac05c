"""What every command does at the terminal: ends any failure in a line a problem, tells warnings, prints lines and JSON.

This is the edge of the product. Inside it, only what a module knows how to tell is caught.
"""

import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import IO, Any

import click

from ..errors import PANICS, one_line, problems_of
from ..load import backend_of_environment
from ..pipeline import Pipeline
from .progress import echo, print_text

TRACEBACK_VARIABLE = "X2I_TRACEBACK"
"""Environment variable under which a refusal is preceded by Python's traceback."""
MOST_PROBLEMS = 20
"""Lines of one refusal."""


class Refusal(click.ClickException):
    """Ends a command with exit code 2, and a line for each of the problems."""

    exit_code = 2

    def __init__(self, *problems: str):
        self.problems = tuple(map(one_line, problems))
        super().__init__("\n".join(self.problems))

    def show(self, file: IO[Any] | None = None) -> None:
        """Prints a line for every problem, on stderr, and how many more there are than MOST_PROBLEMS."""
        more = len(self.problems) - MOST_PROBLEMS
        for line in self.problems[:MOST_PROBLEMS] + ((f"and {more} more problems",) if more > 0 else ()):
            click.echo(f"x2i: error: {line}", file=file, err=True)


@contextmanager
def refusing() -> Iterator[None]:
    """Turns any failure into a Refusal; what click raises, and Ctrl-C, pass."""
    try:
        yield
    except click.UsageError as error:
        message = error.format_message()
        if message == one_line(message):
            raise
        raise click.UsageError(one_line(message), error.ctx) from error
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__module__ != PANICS:
            raise
        if os.environ.get(TRACEBACK_VARIABLE):
            traceback.print_exc()
        raise Refusal(*problems_of(error)) from error


class GuardedCommand(click.Command):
    """A command whose every failure, from its first option on, ends in lines: see `refusing`."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """The parsed command line."""
        with refusing(), printing():
            return super().make_context(*arguments, **options)

    def invoke(self, context: click.Context) -> Any:
        """The command's work."""
        with refusing(), printing():
            return super().invoke(context)


command: Callable[..., Callable[[Callable[..., Any]], click.Command]] = partial(click.command, cls=GuardedCommand)
"""`click.command` with this edge."""


@contextmanager
def printing() -> Iterator[None]:
    """Prints what the terminal's encoding lacks as escapes; a stdout that takes no more is given up, so that the end of
    the process does not fail at it once more."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        if error.filename in (None, "stdout"):
            _give_up_stdout()
        if isinstance(error, BrokenPipeError):
            # Whoever read has seen enough, as `head` has.
            raise click.exceptions.Exit(1) from error
        raise


def _open_closed_streams() -> None:
    """Gives a process that was started without them its three streams: else a file that it writes would get their
    number, and with it whatever a library says there."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            mode = "w" if number else "r"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def _give_up_stdout() -> None:
    with suppress(OSError, ValueError), open(os.devnull, "w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


@contextmanager
def warned(category: type[Warning] = UserWarning) -> Iterator[None]:
    """A line on stderr for every warning of a category, once the work is done; others are not told."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", category)
        yield
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        echo(f"x2i: warning: {message}", err=True)


def announce(pipeline: Pipeline, backend: str | None) -> None:
    """Where the choice of a backend was left to us, a line that says what was chosen, after one for each better backend
    that cannot be used."""
    if (backend or backend_of_environment()) is None:
        for note in (*pipeline.notes, f"on {pipeline.backend}"):
            echo(f"x2i: {note}", err=True)


def echo_json(data: Any, indent: int | None = None) -> None:
    """Prints one JSON object: strictly JSON, which has neither NaN nor infinity."""
    print_text(json.dumps(data, allow_nan=False, indent=indent))
