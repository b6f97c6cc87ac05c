"""`x2i from-optimum` and `x2i to-optimum`: the command lines over both directions."""

from pathlib import Path

import click
from x2i.runtime.commands.console import refusing
from x2i.runtime.commands.progress import bars, echo
from x2i.runtime.errors import InputError

from .options import require_extra


@click.command("from-optimum")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--licence", "licences", multiple=True, help="A licence of the weights, kept in the manifest.")
def from_optimum(folder: Path, out: Path, licences: tuple[str, ...]) -> None:
    """Write the bundle OUT from FOLDER, a Stable Diffusion v1 pipeline of `optimum-cli export onnx`."""
    with require_extra("optimum", "from-optimum"):
        from x2i.models.errors import CheckpointError

        from ..errors import GateError, PlanError
        from ..optimum.from_optimum import import_folder
    with refusing(CheckpointError, GateError, InputError, OSError, PlanError), bars():
        import_folder(folder, out, licences, echo)


@click.command("to-optimum")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
def to_optimum(bundle: Path, out: Path) -> None:
    """Write the plain Stable Diffusion folder BUNDLE as the folder OUT that Optimum's pipelines load."""
    with require_extra("optimum", "to-optimum"):
        from ..errors import PlanError
        from ..optimum.to_optimum import export_folder
    with refusing(InputError, OSError, PlanError):
        export_folder(bundle, out, click.echo)
