"""`python -m x2i.export.full`: full-size bundles from random weights, one UNet step, and what they cost."""

import resource
import time
from pathlib import Path
from typing import Any

import click
from x2i.runtime import load

from .exporter import export_bundle
from .plan import ExportPlan

SYSTEMS: dict[str, dict[str, Any]] = {"sd": {}, "gluegen-text": {"language": "French"}}


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/full"), show_default=True)
@click.option("--system", "systems", type=click.Choice(sorted(SYSTEMS)), multiple=True, help="Only these.")
@click.option("--variant", default="sd15", show_default=True, help="Random-weights variant.")
def full(out: Path, systems: tuple[str, ...], variant: str) -> None:
    """Export full-size systems from random weights and take one step with each."""
    for system in systems or SYSTEMS:
        bundle = out / f"{system}-{variant}"
        start = time.perf_counter()
        if not bundle.exists():
            export_bundle(ExportPlan(system, bundle, random_weights=variant), click.echo)
        click.echo(f"{system}: exported in {time.perf_counter() - start:.0f} s, peak {_peak_gigabytes():.1f} GB")
        start = time.perf_counter()
        pipeline = load(bundle)
        click.echo(f"{system}: loaded in {time.perf_counter() - start:.1f} s")
        for _ in pipeline.steps("a red apple", steps=1, sampler="ddim", **SYSTEMS[system]):
            click.echo(f"{system}: one step in {time.perf_counter() - start:.1f} s since the load began")
        click.echo(f"{system}: peak {_peak_gigabytes():.1f} GB")


def _peak_gigabytes() -> float:
    """Largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    full()
