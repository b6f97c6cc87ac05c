"""`x2i tune`: the command line over `tune`."""

from pathlib import Path
from typing import Any

import click
from x2i.runtime.commands.console import command
from x2i.runtime.commands.options import Size
from x2i.runtime.commands.progress import bars, echo
from x2i.runtime.inputs.sampling import MOST_STEPS
from x2i.runtime.sessions.session import MOST_THREADS

from ..tune.candidates import INSTANT, INSTANT_QUALITY_DB, INSTANT_WAYS, QUALITY_DB, WAYS
from .options import require_extra

STEPS, RUNS = click.IntRange(1, MOST_STEPS), click.IntRange(1, 1000)
NAME = "The preset's name; one of that name is replaced."
QUALITY = (
    "Least PSNR, in dB, of every compared picture with the plain loop's from the same noise: "
    f"{QUALITY_DB:g}, and {INSTANT_QUALITY_DB:g} for a preset named {INSTANT}, where left out."
)
WAY = (
    f"Change nothing else; repeatable. All where left out, and for a preset named {INSTANT}: {', '.join(INSTANT_WAYS)}."
)


def _like(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[Path, str] | None:
    if value is None:
        return None
    folder, colon, name = value.rpartition(":")
    return (Path(folder), name) if colon else (Path(value), "fast")


@command("tune")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--name", default="fast", show_default=True, help=NAME)
@click.option("--quality", type=float, help=QUALITY)
@click.option("--steps", type=STEPS, help="Steps of the plain loop; the bundle's own if left out.")
@click.option("--size", type=Size(), help="Height and width of the compared pictures, in pixels.")
@click.option("--backend", help="What runs the graphs; the best present if left out.")
@click.option("--threads", type=click.IntRange(1, MOST_THREADS), help="CPU threads; all cores if left out.")
@click.option("--judge", metavar="NAME", help="An installed judge, which scores drawings of its own prompts.")
@click.option("--way", "ways", multiple=True, type=click.Choice(WAYS), help=WAY)
@click.option("--like", callback=_like, metavar="BUNDLE[:NAME]", help="Measure that preset here, and try no other.")
@click.option("--runs", type=RUNS, default=3, show_default=True, help="Whole runs of each loop that are timed.")
@click.option("--accept", is_flag=True, help="Keep a preset (--like) that is past the limits; the manifest tells.")
def tune_command(bundle: Path, **options: Any) -> None:
    """Find the fastest way to the same pictures on this device and write it into the folder BUNDLE as a preset."""
    with require_extra("export", "tune"):
        from ..tune.candidates import Tuning
        from ..tune.tune import tune
    from x2i.runtime.commands.plan_text import preset_lines

    with bars():
        tuning = Tuning(**options)
        found = tune(bundle, tuning, echo)
    for line in preset_lines(tuning.name, found):
        echo(line)
