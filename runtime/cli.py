"""The `x2i` command: run, inspect, verify, doctor, and what other rooms add by entry point."""

from importlib.metadata import entry_points

import click

from .commands.build import build
from .commands.doctor import doctor
from .commands.inspect import inspect
from .commands.profile import profile
from .commands.run import run
from .commands.verify import verify

GROUP = "x2i.commands"


class Commands(click.Group):
    """The base commands, and those of the entry-point group `x2i.commands`, imported only when they are called."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted([*super().list_commands(context), *entry_points(group=GROUP).names])

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        found = list(entry_points(group=GROUP, name=name))
        return found[0].load() if found else super().get_command(context, name)


@click.command(cls=Commands)
@click.version_option(package_name="x2i-edge")
def main() -> None:
    """Draw from text in any language, on any machine, with an exported bundle."""


for command in (run, build, inspect, verify, profile, doctor):
    main.add_command(command)
