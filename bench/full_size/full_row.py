"""`python -m full_size.full_row`: one bundle on one backend, in a process of its own: load, steps, memory, latents."""

import json
import statistics
import time
from pathlib import Path

import click
import numpy as np
from x2i.runtime import load
from x2i.runtime.machine import peak_memory
from x2i.runtime.profiling.job import stand_ins


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("backend")
@click.argument("latents", type=click.Path(path_type=Path))
@click.option("--steps", type=click.IntRange(min=2), default=4, show_default=True, help="All but the first timed.")
def full_row(bundle: Path, backend: str, latents: Path, steps: int) -> None:
    """Draw with BUNDLE at its default size and print what it took as JSON; the final latents go to LATENTS."""
    began = time.perf_counter()
    pipeline = load(bundle, backend)
    loaded = time.perf_counter() - began
    given = stand_ins(pipeline.bundle)
    times, last = [], None
    walk = pipeline.steps(steps=steps, sampler="ddim", seed=1, **given)
    while True:
        began = time.perf_counter()
        step = next(walk, None)
        if step is None:
            break
        times.append(time.perf_counter() - began)
        last = step
    assert last is not None
    before_decoding = peak_memory()
    began = time.perf_counter()
    last.preview()
    decoded = time.perf_counter() - began
    np.save(latents, last.state)
    timed = sorted(times[1:])
    facts = {
        "load": loaded,
        "step": statistics.median(timed),
        "fastest": timed[0],
        "slowest": timed[-1],
        "decode": decoded,
        "peak_bytes": before_decoding,
        "peak_bytes_decoded": peak_memory(),
    }
    click.echo(json.dumps(facts))


if __name__ == "__main__":
    full_row()
