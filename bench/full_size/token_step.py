"""`python -m full_size.token_step`: a step of VQ-Diffusion at its released size, by diffusers' classes and by x2i.

Every contestant runs in a process of its own, on the same random weights, from the same states with the same noise. The
first proves that it draws the same tokens, then steps are timed.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from x2i.export.exporter import export_bundle
from x2i.export.lower.lowered_bundle import lower
from x2i.export.lower.lowering import Lowering
from x2i.export.plan import ExportPlan
from x2i.runtime import load
from x2i.runtime.inputs.registry import filled_in
from x2i.runtime.machine import cpu_model, package_versions, peak_memory, usable_cores
from x2i.runtime.pipeline import Pipeline
from x2i.runtime.processes.tokens import TokensProcess
from x2i.runtime.token_samplers.mask_replace import MaskReplace
from x2i.runtime.token_samplers.noise import TokenNoise
from x2i.runtime.token_samplers.sampler import TokenRun, TokenWalk

VARIANT, PROMPT, SEED = "coco", "a teddy bear playing in the pool", 7
GUIDANCE, TRUNCATION = 1.0, 0.86
CONTESTANTS = {
    "diffusers eager, fp32": ("torch", "eager"),
    "diffusers compiled, fp32": ("torch", "compiled"),
    "x2i cpu, fp32": ("bundle", "cpu"),
    "x2i openvino, fp32": ("bundle", "openvino"),
    "x2i openvino, int8": ("bundle-int8", "openvino"),
}
PACKAGES = ("x2i-edge", "torch", "diffusers", "onnxruntime", "openvino", "numpy")


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), default="build/full/vq-diffusion", show_default=True)
@click.option("--steps", type=click.IntRange(min=2), default=5, show_default=True, help="All but the first timed.")
@click.option("--role", help="One contestant, which prints JSON; all of them if left out.")
def token_step(folder: Path, steps: int, role: str | None) -> None:
    """Time a step of a picture of 1024 tokens, guidance off, truncation 0.86, for everybody."""
    if role is not None:
        click.echo(json.dumps(_measured(folder, *CONTESTANTS[role], steps)))
        return
    _make(folder)
    versions = ", ".join(f"{name} {version}" for name, version in package_versions(PACKAGES).items())
    click.echo(f"{cpu_model()}, {usable_cores()} cores; {versions}")
    click.echo(
        "| | step, s | spread, s | of it the sampler, s | peak, GB | tokens as the first's |\n|---|---|---|---|---|---|"
    )
    first: list[list[int]] = []
    for name in CONTESTANTS:
        words = (sys.executable, "-m", "full_size.token_step", "--folder", folder, "--steps", steps, "--role", name)
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
        if done.returncode:
            click.echo(f"| {name} | {(done.stderr.strip().splitlines() or ['failed'])[-1][:80]} | | | | |")
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        first = first or found["tokens"]
        same = float((np.array(found["tokens"]) == np.array(first)).mean())
        sampler = f"{found['sampler']:.3f}" if found["sampler"] is not None else "in the step"
        spread = f"{found['fastest']:.2f} to {found['slowest']:.2f}"
        click.echo(f"| {name} | {found['step']:.2f} | {spread} | {sampler} | {found['peak'] / 1e9:.1f} | {same:.2%} |")


def _make(folder: Path) -> None:
    """The bundles, where they are not there."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "bundle").exists():
        export_bundle(ExportPlan("vq-diffusion", folder / "bundle", random_weights=VARIANT), click.echo)
    if not (folder / "bundle-int8").exists():
        few = Lowering(precision={"": "int8"}, steps=4, accept=True)
        lower(folder / "bundle", folder / "bundle-int8", few, click.echo)


def _classes(process: TokensProcess) -> int:
    assert isinstance(process.sampler, MaskReplace)
    return process.sampler.classes


def _measured(folder: Path, kind: str, how: str, steps: int) -> dict[str, Any]:
    """The tokens that each of the first states becomes, and the seconds of steps."""
    pipeline = load(folder / ("bundle" if kind == "torch" else kind), "cpu" if kind == "torch" else how)
    states = _states(folder, pipeline, steps)
    if kind == "torch":
        return _by_diffusers(how == "compiled", pipeline, states)
    return _by_walk(pipeline, states)


def _states(folder: Path, pipeline: Pipeline, steps: int) -> np.ndarray:
    """int64 [steps, 1, length]: states as they come up, all but the first half filled at random."""
    random, process = np.random.default_rng(SEED), pipeline.bundle.manifest.plan.tokens
    length, classes = process.length, _classes(process)
    drawn = random.integers(classes, size=(steps, 1, length))
    masked = random.random((steps, 1, length)) < np.linspace(1, 0.3, steps)[:, None, None]
    return np.where(masked, classes, drawn)


def _by_walk(pipeline: Pipeline, states: np.ndarray) -> dict[str, Any]:
    """The runtime's own loop, each step from the state that is given."""
    walk = pipeline.steps(PROMPT, seed=SEED, guidance=GUIDANCE, truncation=TRUNCATION)
    seconds, tokens = _forced(walk, states)
    process = pipeline.bundle.manifest.plan.tokens
    logits = np.random.default_rng(1).normal(0, 2, (1, process.length, _classes(process))).astype(np.float32)
    # A network that answers at once leaves the sampler alone.
    beside, _ = _forced(_walk_with(process, lambda tokens, timestep: logits), states)
    return _facts(seconds, tokens, statistics.median(beside[1:]))


def _by_diffusers(compiled: bool, pipeline: Pipeline, states: np.ndarray) -> dict[str, Any]:
    """diffusers' transformer, truncation and scheduler, as its pipeline calls them; then its logits in our sampler."""
    from .vq_diffusion_peer import DiffusersStep

    begun = pipeline.steps(PROMPT, seed=SEED, guidance=GUIDANCE, truncation=TRUNCATION)
    peer = DiffusersStep(VARIANT, begun.slots["context"][-1:], TRUNCATION, compiled)
    process = pipeline.bundle.manifest.plan.tokens
    del begun, pipeline
    seconds = []
    for number, state in enumerate(states):
        began = time.perf_counter()
        peer.step(state, process.steps - 2 - number)
        seconds.append(time.perf_counter() - began)
    _, tokens = _forced(_walk_with(process, peer.logits), states)
    return _facts(seconds, tokens, None)


def _walk_with(process: TokensProcess, logits: Callable[[np.ndarray, int], np.ndarray]) -> TokenWalk:
    """A walk whose network is a function of tokens and timestep."""

    def predict(tokens: np.ndarray, timestep: np.ndarray | int) -> dict[str, np.ndarray]:
        return {"logits": process.guidance.combined(logits(tokens, int(np.max(timestep))), 1, GUIDANCE)}

    noise, values = TokenNoise(SEED, 1), filled_in({"truncation": TRUNCATION})
    return process.sampler.walk(TokenRun(predict, noise, 1, process.grid, values, {}))


def _forced(walk: Any, states: np.ndarray) -> tuple[list[float], list[list[int]]]:
    """Seconds and tokens of a step from each state, behind a first step that sets up."""
    seconds, tokens = [], []
    next(walk)
    for state in states:
        began = time.perf_counter()
        step = walk.send(state)
        seconds.append(time.perf_counter() - began)
        tokens.append(step.tokens[0].tolist())
    return seconds, tokens


def _facts(seconds: list[float], tokens: list[list[int]], sampler: float | None) -> dict[str, Any]:
    timed = sorted(seconds[1:])
    step = {"step": statistics.median(timed), "fastest": timed[0], "slowest": timed[-1]}
    return {**step, "sampler": sampler, "tokens": tokens, "peak": peak_memory()}


if __name__ == "__main__":
    token_step()
