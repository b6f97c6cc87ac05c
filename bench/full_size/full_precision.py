"""`python -m full_size.full_precision`: every precision on every backend of this machine, at full size."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from harness.environments import child_environment
from x2i.emoji.source_digest import remake, source_digest
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.gate.metrics import relative_l2
from x2i.runtime.machine import processor, versions
from x2i.runtime.sessions.backends import BACKENDS
from x2i.runtime.sessions.session import Settings

from full_size.full import exported, module_command

SYSTEM = "sd"
PRECISIONS = ("fp16", "int8", "int8+fp16", "int8-weights", "int4-weights")
TRIALS = ("--trial-steps", "2", "--trial-size", "256x256", "--accept")
"""Random weights draw nothing that could be judged: few and small runs, and the gate's figures are kept as they are."""
BUILT = {"openvino": ("fp32", "fp16", "int8"), "rtx": ("fp16", "int8+fp16")}
"""What `x2i build` makes: of the denoiser alone, which is nearly all of a bundle."""
PACKAGES = ("x2i-edge", "onnxruntime", "openvino", "tensorrt-rtx", "numpy")
X2I = sys.executable, "-P", "-c", "from x2i.runtime.cli import main; main()"
Facts = dict[str, Any]
LatentsOf = Callable[[str, str], Path]
"""The file of what a precision drew on a backend."""


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/full"), show_default=True)
@click.option("--variant", default="sd15", show_default=True, help="Random-weights variant.")
def full_precision(out: Path, variant: str) -> None:
    """Lower the plain system to every precision, build its engines, and draw with each on each backend.

    Every measurement is a process of its own and is kept in OUT/precision-VARIANT.json: a second run goes on where the
    first was stopped, unless the exporter has changed.
    """
    bundles = {"fp32": exported(SYSTEM, out, variant)}
    kept = _Kept(out / f"precision-{variant}.json", source_digest(settings=variant))
    usable = [name for name, backend in BACKENDS.items() if backend.problem(None, Settings()) is None]
    for precision in ("fp32", *PRECISIONS):
        bundle = bundles.setdefault(precision, out / f"{SYSTEM}-{variant}-{precision}")
        if precision != "fp32":
            kept(f"lower {precision}", partial(_lowered, bundles["fp32"], bundle, precision))
        for backend in (name for name, precisions in BUILT.items() if precision in precisions):
            kept(f"build {precision} {backend}", partial(_built, bundle, backend))
        for backend in usable:
            latents = _latents(out, variant, precision, backend)
            kept(f"run {precision} {backend}", partial(_drawn, bundle, backend, latents))
    for line in _table(bundles, usable, kept.facts, partial(_latents, out, variant)):
        click.echo(line)


def _latents(out: Path, variant: str, precision: str, backend: str) -> Path:
    return out / f"{precision}-{backend}-{variant}.npy"


class _Kept:
    """Measurements by name, kept in a file as they come; those of another `source` are left out."""

    def __init__(self, path: Path, source: str):
        self._path = path
        kept: dict[str, Facts] = json.loads(path.read_text("utf-8")) if path.exists() else {}
        mark = {"source": {"sha256": source}}
        self.facts = kept if kept.get("source") == mark["source"] else mark

    def __call__(self, name: str, measure: Callable[[], Facts]) -> None:
        if name not in self.facts:
            self.facts[name] = measure()
            whole = self._path.with_suffix(".partial")
            whole.write_text(json.dumps(self.facts, indent=1) + "\n", encoding="utf-8")
            whole.replace(self._path)
        click.echo(f"{name}: {json.dumps(self.facts[name])}")


def _lowered(source: Path, target: Path, precision: str) -> Facts:
    facts: Facts = {}

    def lower() -> None:
        began = time.perf_counter()
        _, peak = _run(*X2I, "lower", str(source), str(target), "--precision", precision, *TRIALS)
        facts.update(seconds=time.perf_counter() - began, peak_bytes=peak)

    remake(target, source_digest(source / "manifest.json", settings=precision), lower, click.echo)
    return facts


def _built(bundle: Path, backend: str) -> Facts:
    printed, _ = _run(*X2I, "build", str(bundle), "--for", backend, "--graph", "denoiser", "--json")
    return json.loads(printed.splitlines()[-1])["denoiser"]


def _drawn(bundle: Path, backend: str, latents: Path) -> Facts:
    printed, _ = _run(*module_command("full_row", str(bundle), backend, str(latents)))
    return json.loads(printed.splitlines()[-1])


def _run(*words: str) -> tuple[str, int]:
    """What a process prints, and its largest resident size in bytes."""
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=child_environment())
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(words)}: ended with exit code {process.returncode}")
    return printed, used.ru_maxrss * 1024


def _table(
    bundles: dict[str, Path], backends: list[str], facts: dict[str, Facts], latents_of: LatentsOf
) -> Iterator[str]:
    """Markdown: a row for every precision and backend, and what was built but cannot run here."""
    yield f"{processor()}, {versions(PACKAGES)}"
    yield ""
    yield "| precision | denoiser, MB | backend | build, s | load, s | step, s | peak, GB | latents differ by |"
    yield "|---|---|---|---|---|---|---|---|"
    expected = np.load(latents_of("fp32", "cpu"), allow_pickle=False)
    for precision, bundle in bundles.items():
        for backend in dict.fromkeys((*backends, *BUILT)):
            run, build = facts.get(f"run {precision} {backend}"), facts.get(f"build {precision} {backend}")
            if run is None and build is None:
                continue
            made = f"{build['seconds']:.0f} ({build['peak_bytes'] / 1e9:.1f} GB)" if build else ""
            row = [precision, f"{_denoiser_bytes(bundle) / 1e6:.0f}", backend, made]
            if run is None:
                row += ["built, not run", "", "", ""]
            else:
                latents = np.load(latents_of(precision, backend), allow_pickle=False)
                row += [f"{run['load']:.1f}", f"{run['step']:.2f} ({run['fastest']:.2f} to {run['slowest']:.2f})"]
                row += [f"{run['peak_bytes'] / 1e9:.1f}", f"{relative_l2(latents, expected):.2%}"]
            yield f"| {' | '.join(row)} |"
    for precision in PRECISIONS:
        lowered = facts[f"lower {precision}"]
        yield f"{precision}: lowered in {lowered['seconds']:.0f} s, peak {lowered['peak_bytes'] / 1e9:.1f} GB"


def _denoiser_bytes(bundle: Path) -> int:
    manifest = open_bundle(bundle, check_files=False).manifest
    graph = manifest.graphs["denoiser"]
    return sum(manifest.files[file].bytes for file in (graph.file, *graph.data))


if __name__ == "__main__":
    full_precision()
