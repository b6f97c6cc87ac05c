"""`x2i from-optimum` and `x2i to-optimum`: the command lines over both directions."""

from pathlib import Path

import click
from x2i.runtime.commands.console import command
from x2i.runtime.commands.progress import bars, echo

from .options import require_extra


@command("from-optimum")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--licence", "licences", multiple=True, help="A licence of the weights, kept in the manifest.")
def from_optimum(folder: Path, out: Path, licences: tuple[str, ...]) -> None:
    """Write the bundle OUT from FOLDER, a Stable Diffusion v1 pipeline of `optimum-cli export onnx`."""
    with require_extra("optimum", "from-optimum"):
        from ..optimum.from_optimum import import_folder
    with bars():
        import_folder(folder, out, licences, echo)


@command("to-optimum")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
def to_optimum(bundle: Path, out: Path) -> None:
    """Write the plain Stable Diffusion folder BUNDLE as the folder OUT that Optimum's pipelines load."""
    with require_extra("optimum", "to-optimum"):
        from ..optimum.to_optimum import export_folder
    export_folder(bundle, out, echo)
