"""Progress bars with the time left, on stderr where that is a terminal; elsewhere a command prints its lines alone.

A command switches bars on for its work (`with bars():`). What works below it calls `track` or `progress_bar`, which
show nothing unless a command did so. Lines of results go through `echo`, which keeps bars out of them.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from operator import length_hint
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import one_line

if TYPE_CHECKING:
    from tqdm import tqdm

Item = TypeVar("Item")

COLUMNS = 80
"""Width of a bar on a terminal that does not tell its own."""
_open: "ContextVar[list[tqdm[Any]] | None]" = ContextVar("bars on the screen, None where none are shown", default=None)


@contextmanager
def bars(shown: bool = True) -> Iterator[None]:
    """Shows the bars of the block, if `shown` and stderr is a terminal; commands pass `not as_json`."""
    found: list[tqdm[Any]] | None = [] if shown and sys.stderr.isatty() else None
    before = _open.set(found)
    try:
        yield
    finally:
        # An error's traceback may keep a loop's iterator alive, and with it the bar.
        for bar in reversed(found or []):
            bar.close()
        _open.reset(before)


class ProgressBar:
    """Moves one bar; does nothing where bars are not shown."""

    def __init__(self, bar: "tqdm[Any] | None"):
        self._bar = bar

    def advance(self, count: float = 1) -> None:
        """Counts that much more as done."""
        if self._bar is not None:
            self._bar.update(count)

    def move_to(self, done: float, total: float | None = None) -> None:
        """Says how much is done in all, and out of how much where that is known only now."""
        if self._bar is not None:
            self._bar.total = self._bar.total if total is None else total
            self._bar.update(done - self._bar.n)


@contextmanager
def progress_bar(label: str, total: float | None = None, unit: str = "") -> Iterator[ProgressBar]:
    """A bar that is removed when the block ends. Without a `total` it shows the count and the time that has passed."""
    shown = _open.get()
    if shown is None:
        yield ProgressBar(None)
        return
    # Only a terminal needs it, and importing it takes a tenth of a second.
    from tqdm import tqdm

    wide = _width_is_known()
    columns = None if wide else COLUMNS
    unit = f" {unit}".rstrip()
    with tqdm(
        desc=label, total=total, unit=unit, file=sys.stderr, leave=False, dynamic_ncols=wide, ncols=columns
    ) as bar:
        shown.append(bar)
        yield ProgressBar(bar)


def _width_is_known() -> bool:
    """Terminals of containers and recorders may say that they have no columns, in which tqdm would draw nothing."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns > 0
    except (OSError, ValueError):
        return False


def track(items: Iterable[Item], label: str, total: int | None = None, unit: str = "") -> Iterator[Item]:
    """The items, with a bar that advances when the caller asks for the next; `total` where `items` has no length."""
    known = total if total is not None else length_hint(items) or None
    with progress_bar(label, known, unit) as bar:
        for item in items:
            yield item
            bar.advance()


def echo(line: str, err: bool = False) -> None:
    """Prints a line on stdout, or on stderr, above the bars where there are any; what would move a terminal's cursor
    is escaped."""
    print_text(one_line(line), err)


def print_text(text: str, err: bool = False) -> None:
    """`echo` for a text as it is. Raises OSError that names the stream where it takes no more."""
    try:
        if _open.get() is None:
            click.echo(text, err=err)
            return
        from tqdm import tqdm

        tqdm.write(text, file=sys.stderr if err else sys.stdout)
    except OSError as error:
        error.filename = "stderr" if err else "stdout"
        raise
