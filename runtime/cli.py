"""The `x2i` command: run, inspect, verify, doctor, and what other rooms add by entry point."""

from importlib import import_module
from importlib.metadata import entry_points

import click

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


@click.command(cls=Commands)
@click.version_option(package_name="x2i-edge")
def main() -> None:
    """Draw from text in any language, on any machine, with an exported bundle."""
