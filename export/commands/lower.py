"""`x2i lower`: the command line over `lower`."""

from pathlib import Path
from typing import Any

import click
from x2i.runtime.commands.console import command
from x2i.runtime.commands.progress import bars, echo

from .options import lowering_options, require_extra


@command("lower")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@lowering_options
def lower_command(bundle: Path, out: Path, lowering: dict[str, Any]) -> None:
    """Write the fp32 folder BUNDLE in a lower precision to the new folder OUT."""
    with require_extra("export", "lower"):
        from ..lower.lowered_bundle import lower
        from ..lower.lowering import Lowering
    with bars():
        lower(bundle, out, Lowering(**lowering), echo)
