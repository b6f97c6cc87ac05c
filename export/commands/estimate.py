"""`x2i estimate`: the least time and the memory a bundle takes on a device that is not here."""

import warnings
from dataclasses import asdict
from pathlib import Path

import click
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.commands.console import command, echo_json
from x2i.runtime.commands.options import Size
from x2i.runtime.commands.progress import echo

from ..estimate.devices import DEVICES
from .options import require_extra


@command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--device", required=True, type=click.Choice(list(DEVICES)), help="Whose published rates to take.")
@click.option("--size", type=Size(), help="Height and width in pixels; the bundle's own if left out.")
@click.option("--count", type=int, help="Pictures drawn at once.")
@click.option("--steps", type=int, help="Denoising steps.")
@click.option("--guidance", type=float, help="Guidance scale; 1 switches it off, and half the work.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def estimate(
    bundle: Path,
    device: str,
    size: tuple[int, int] | None,
    count: int | None,
    steps: int | None,
    guidance: float | None,
    as_json: bool,
) -> None:
    """Bound what one picture of the folder BUNDLE takes on a device: a roofline, not a forecast."""
    with require_extra("export", "estimate"):
        from ..estimate import roofline
    options = {"size": size, "count": count, "steps": steps, "guidance": guidance}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened = open_bundle(bundle, check_files=False)
        found = roofline.estimate_bundle(opened, DEVICES[device], {k: v for k, v in options.items() if v is not None})
    if as_json:
        totals = {"seconds": found.seconds, "bytes": found.bytes, "bound": roofline.BOUND}
        echo_json(asdict(found) | totals)
        return
    for line in roofline.estimate_lines(found):
        echo(line)
