"""Which backend draws, told where the caller left the choice to us."""

import click

from ..pipeline import Pipeline


def announce(pipeline: Pipeline) -> None:
    """One line on stderr for every better backend that could not be used, and one for the one that is."""
    for note in pipeline.notes:
        click.echo(f"x2i: {note}", err=True)
    click.echo(f"x2i: on {pipeline.backend}", err=True)
