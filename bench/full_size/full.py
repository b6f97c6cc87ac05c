"""`python -m full_size.full`: full-size bundles from random weights, one UNet step, and what they cost."""

import subprocess
import sys
import time
from pathlib import Path

import click
from harness.environments import child_environment
from x2i.emoji.source_digest import source_digest, up_to_date
from x2i.export.exporter import export_bundle
from x2i.export.plan import ExportPlan
from x2i.export.systems.registry import SYSTEMS
from x2i.runtime import load
from x2i.runtime.machine import peak_memory
from x2i.runtime.profiling.job import stand_ins


@click.group(invoke_without_command=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/full"), show_default=True)
@click.option("--variant", default="sd15", show_default=True, help="Random-weights variant.")
@click.pass_context
def full(context: click.Context, out: Path, variant: str) -> None:
    """Export every system from random weights and take one step with each, every part in a process of its own."""
    if context.invoked_subcommand is not None:
        return
    for system in SYSTEMS:
        run_module("full", "step", system, str(exported(system, out, variant)))


@full.command()
@click.argument("system", type=click.Choice(sorted(SYSTEMS)))
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("variant")
def export(system: str, bundle: Path, variant: str) -> None:
    """Export one system."""
    start = time.perf_counter()
    export_bundle(ExportPlan(system, bundle, random_weights=variant), click.echo)
    click.echo(f"{system}: exported in {time.perf_counter() - start:.0f} s, peak {peak_memory() / 1e9:.1f} GB")


@full.command()
@click.argument("system", type=click.Choice(sorted(SYSTEMS)))
@click.argument("bundle", type=click.Path(path_type=Path))
def step(system: str, bundle: Path) -> None:
    """Load one bundle and take one step at its default size."""
    start = time.perf_counter()
    pipeline = load(bundle)
    loaded = time.perf_counter()
    for taken in pipeline.steps(steps=2, sampler="ddim", **stand_ins(pipeline.bundle)):
        click.echo(f"{system}: step {taken.index + 1} done {time.perf_counter() - loaded:.1f} s after loading")
    click.echo(f"{system}: loaded in {loaded - start:.1f} s, peak {peak_memory() / 1e9:.1f} GB")


def exported(system: str, out: Path, variant: str) -> Path:
    """The system's bundle in the folder `out`, exported now, in a process of its own, where it is not there or where
    the exporter has changed.

    Raises Refusal where it has to be made again but somebody else made it, or changed it since.
    """
    bundle = out / f"{system}-{variant}"
    source = source_digest(settings=f"{system}, random weights {variant}")
    return up_to_date(bundle, source, lambda: run_module("full", "export", system, str(bundle), variant), click.echo)


def run_module(name: str, *words: str) -> None:
    """Runs a module of this folder in a process of its own, which looks for modules nowhere but in `bench` and among
    the installed packages."""
    subprocess.run(module_command(name, *words), check=True, env=child_environment())


def module_command(name: str, *words: str) -> list[str]:
    """The command line that runs a module of this folder, in the environment `child_environment()`."""
    return [sys.executable, "-P", "-m", f"full_size.{name}", *words]


if __name__ == "__main__":
    full()
