"""`python -m full_size.adapter_cost`: what a second attention adds to a step of the plain UNet, at full size."""

import json
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from harness.environments import child_environment
from x2i.runtime import load
from x2i.runtime.machine import processor, versions
from x2i.runtime.profiling.job import stand_ins

from full_size.full import exported, module_command

PLAIN = "sd"
RUN_STEPS = 50
CONTEXT_TOKENS = 77
Seconds = dict[str, list[float]]


@click.group(invoke_without_command=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/full"), show_default=True)
@click.option("--variant", default="sd15", show_default=True, help="Random-weights variant.")
@click.option("--repeats", type=click.IntRange(min=2), default=4, show_default=True, help="Steps timed in one process.")
@click.option("--system", "systems", multiple=True, default=("elite", "ip-adapter"), show_default=True)
@click.pass_context
def adapter_cost(context: click.Context, out: Path, variant: str, repeats: int, systems: tuple[str, ...]) -> None:
    """Time the guided step with and without each adapter, in turns and each time in a process of its own."""
    if context.invoked_subcommand is not None:
        return
    bundles = {system: exported(system, out, variant) for system in (PLAIN, *systems)}
    click.echo(f"{processor()}, {versions(('onnxruntime', 'numpy'))}, fp32, {variant}")
    timed: dict[str, Seconds] = {}
    for system in [PLAIN, *(name for adapter in systems for name in (adapter, PLAIN))]:
        for kind, seconds in _measured(system, bundles[system], repeats).items():
            timed.setdefault(system, {}).setdefault(kind, []).extend(seconds)
    for line in _table(timed):
        click.echo(line)


@adapter_cost.command()
@click.argument("system")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("repeats", type=int)
def measure(system: str, bundle: Path, repeats: int) -> None:
    """Print the seconds of encoding, of the text's projection alone, and of each step, as JSON."""
    pipeline = load(bundle)
    given = stand_ins(pipeline.bundle)
    (context,) = pipeline.bundle.manifest.graphs["projection"].inputs
    width, random = int(context.shape[-1]), np.random.default_rng(0)
    both_sides = random.standard_normal((2, CONTEXT_TOKENS, width), np.float32)
    seconds = {
        "encode": _times(lambda: pipeline.steps(steps=1, **given), repeats),
        "projection": _times(lambda: pipeline.session("projection")(context=both_sides), repeats),
    }
    # The first call of a graph plans its memory; it is not counted.
    steps = pipeline.steps(steps=repeats + 1, sampler="ddim", **given)
    seconds["step"] = _times(lambda: next(steps), repeats)
    click.echo(json.dumps(seconds))


def _times(call: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of each call after one that does not count."""
    call()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return times


def _measured(system: str, bundle: Path, repeats: int) -> Seconds:
    command = module_command("adapter_cost", "measure", system, str(bundle), str(repeats))
    process = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=child_environment())
    return json.loads(process.stdout.splitlines()[-1])


def _table(timed: dict[str, Seconds]) -> list[str]:
    plain = statistics.median(timed[PLAIN]["step"])
    lines = [
        f"{'system':12} {'step, s: median':>16} {'fastest':>8} {'slowest':>8} {'over plain':>11} {'encode, s':>10}"
    ]
    for system, kinds in timed.items():
        steps, encode = sorted(kinds["step"]), statistics.median(kinds["encode"])
        step = statistics.median(steps)
        share = f"{step / plain - 1:+.1%}" if system != PLAIN else ""
        lines.append(f"{system:12} {step:16.2f} {steps[0]:8.2f} {steps[-1]:8.2f} {share:>11} {encode:10.2f}")
        lines.append(f"{'':12} encoding is {encode / (RUN_STEPS * step):.2%} of a {RUN_STEPS}-step run")
    projection = statistics.median(timed[PLAIN]["projection"])
    lines.append(
        f"the text's keys and values take {projection * 1000:.0f} ms: once a picture instead of at every step, that "
        f"is {projection / plain:.2%} of a step saved"
    )
    return lines


if __name__ == "__main__":
    adapter_cost()
