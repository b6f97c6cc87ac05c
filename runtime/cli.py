"""The `x2i` command: those of `commands/`, and what other rooms add by entry point."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import entry_points
from types import FrameType
from typing import Any

import click

from .commands.console import printing, refusing

GROUP = "x2i.commands"
BASE = ("build", "doctor", "inspect", "profile", "run", "share", "verify")
"""Commands of this room, each a function in the module of its name."""


class Commands(click.Group):
    """The base commands, and those of the entry-point group `x2i.commands`, imported only when they are called."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted([*BASE, *entry_points(group=GROUP).names])

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name in BASE:
            command: click.Command = getattr(import_module(f".commands.{name}", __package__), name)
            return command
        found = list(entry_points(group=GROUP, name=name))
        return found[0].load() if found else None

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """The parsed command line, or the help."""
        with refusing(), printing():
            return super().make_context(*arguments, **options)

    def invoke(self, context: click.Context) -> Any:
        """The command named, stopped by a polite signal as by Ctrl-C."""
        with _terminable(), refusing():
            return super().invoke(context)


STOPS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""What a polite `kill`, and a terminal that goes, send."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Lets these signals stop a command as Ctrl-C does, so that it takes away what it has half written. What is
    ignored, as by nohup, stays so."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: handler for number in STOPS if (handler := signal.getsignal(number)) is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            # None stands for a handler that is not Python's, which cannot be set again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


@click.command(cls=Commands)
@click.version_option(package_name="x2i-edge")
def main() -> None:
    """Draw from text in any language, on any machine, with an exported bundle."""
