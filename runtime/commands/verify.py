"""`x2i verify`: every file against its digest, every graph against its proof, on this machine."""

import json
from pathlib import Path

import click

from ..bundle import open_bundle
from ..errors import InputError
from ..proof import prove
from .refusal import Refusal, refusing


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--backend", default="cpu", show_default=True, help="What runs the graphs.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def verify(bundle: Path, backend: str, as_json: bool) -> None:
    """Check the folder BUNDLE: digests, then every graph's output against fp32 torch's, stored at export."""
    with refusing(InputError, OSError):
        opened = open_bundle(bundle)
        results = []
        for result in prove(opened, backend):
            results.append(result)
            if not as_json:
                verdict = "ok" if result.passed else "FAILED"
                click.echo(f"{verdict}  {result.graph}: error {result.error:.1e} (gate {result.gate:.0e})")
    failed = [result.graph for result in results if not result.passed]
    if as_json:
        graphs = {result.graph: {"error": result.error, "gate": result.gate} for result in results}
        click.echo(json.dumps({"files": len(opened.manifest.files), "graphs": graphs, "failed": failed}))
    if failed:
        raise Refusal(
            f"{bundle}: {', '.join(failed)} past the gate on backend {backend}; use another backend or export again"
        )
    if not as_json:
        click.echo(f"{bundle}: {len(opened.manifest.files)} files and {len(results)} graphs as exported")
