"""`python -m full_size.token_step`: a step of VQ-Diffusion or of aMUSEd at its released size, by diffusers' classes and
by x2i.

Every contestant runs in a process of its own, on the same random weights, from the same states with the same noise. The
first proves that it draws the same tokens, then steps are timed.
"""

import json
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import click
import numpy as np
from harness.environments import child_environment
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
from x2i.runtime.token_samplers.masked_decoding import MaskedDecoding
from x2i.runtime.token_samplers.noise import TokenNoise
from x2i.runtime.token_samplers.row_blocks import on_cores
from x2i.runtime.token_samplers.sampler import TokenRun, TokenWalk

from full_size.full import module_command

PROMPT, SEED = "a teddy bear playing in the pool", 7


@dataclass(frozen=True, slots=True)
class Released:
    """A system at its released size: the random weights, the options of a step, and the module of its peer."""

    variant: str
    options: Mapping[str, Any]
    peer: str


SYSTEMS = {
    "vq-diffusion": Released("coco", {"guidance": 1.0, "truncation": 0.86}, "full_size.token_peers.vq_diffusion"),
    "muse": Released("amused-256", {"guidance": 10.0}, "full_size.token_peers.amused"),
}


class Peer(Protocol):
    """What `DiffusersStep` of a peer's module is; it is made of the variant, the slots of a run, its options, and
    whether to compile."""

    def step(self, tokens: np.ndarray, timestep: int) -> Any:
        """The next tokens of int64 [1, N], drawn by diffusers."""

    def logits(self, tokens: np.ndarray, timestep: int) -> np.ndarray:
        """float32 [rows of guidance, N, classes]."""


CONTESTANTS = {
    "diffusers eager, fp32": ("torch", "eager"),
    "diffusers compiled, fp32": ("torch", "compiled"),
    "x2i cpu, fp32": ("bundle", "cpu"),
    "x2i openvino, fp32": ("bundle", "openvino"),
    "x2i openvino, int8": ("bundle-int8", "openvino"),
}
PACKAGES = ("x2i-edge", "torch", "diffusers", "onnxruntime", "openvino", "numpy")


@click.command()
@click.option("--system", type=click.Choice(list(SYSTEMS)), default="vq-diffusion", show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), default="build/full", show_default=True)
@click.option("--steps", type=click.IntRange(min=2), default=5, show_default=True, help="All but the first timed.")
@click.option("--role", help="One contestant, which prints JSON; all of them if left out.")
def token_step(system: str, folder: Path, steps: int, role: str | None) -> None:
    """Time a step of a picture, of 1024 tokens, guidance off and truncation 0.86 (VQ-Diffusion), or of 256 tokens and
    guidance 10 (aMUSEd), for everybody."""
    home = folder / system
    if role is not None:
        click.echo(json.dumps(_measured(home, SYSTEMS[system], *CONTESTANTS[role], steps)))
        return
    _make(home, system)
    versions = ", ".join(f"{name} {version}" for name, version in package_versions(PACKAGES).items())
    click.echo(f"{cpu_model()}, {usable_cores()} cores; {versions}")
    click.echo(
        "| | step, s | spread, s | of it the sampler, s | peak, GB | tokens as the first's |\n|---|---|---|---|---|---|"
    )
    first: list[list[int]] = []
    for name in CONTESTANTS:
        told = ("--system", system, "--folder", str(folder), "--steps", str(steps), "--role", name)
        command = module_command("token_step", *told)
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=child_environment())
        if done.returncode:
            click.echo(f"| {name} | {(done.stderr.strip().splitlines() or ['failed'])[-1][:80]} | | | | |")
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        first = first or found["tokens"]
        same = float((np.array(found["tokens"]) == np.array(first)).mean())
        sampler = f"{found['sampler']:.3f}" if found["sampler"] is not None else "in the step"
        spread = f"{found['fastest']:.2f} to {found['slowest']:.2f}"
        click.echo(f"| {name} | {found['step']:.2f} | {spread} | {sampler} | {found['peak'] / 1e9:.1f} | {same:.2%} |")


def _make(home: Path, system: str) -> None:
    """The bundles, where they are not there."""
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "bundle").exists():
        export_bundle(ExportPlan(system, home / "bundle", random_weights=SYSTEMS[system].variant), click.echo)
    if not (home / "bundle-int8").exists():
        few = Lowering(precision={"": "int8"}, steps=4, accept=True)
        lower(home / "bundle", home / "bundle-int8", few, click.echo)


def _mask(process: TokensProcess) -> int:
    """The id that stands for what is not drawn yet."""
    assert isinstance(process.sampler, MaskReplace | MaskedDecoding)
    return process.sampler.classes if isinstance(process.sampler, MaskReplace) else process.sampler.mask_id


def _classes(process: TokensProcess) -> int:
    assert isinstance(process.sampler, MaskReplace | MaskedDecoding)
    return process.sampler.classes


def _measured(home: Path, released: Released, kind: str, how: str, steps: int) -> dict[str, Any]:
    """The tokens that each of the first states becomes, and the seconds of steps."""
    pipeline = load(home / ("bundle" if kind == "torch" else kind), "cpu" if kind == "torch" else how)
    states = _states(pipeline.bundle.manifest.plan.tokens, steps)
    if kind == "torch":
        return _by_diffusers(how == "compiled", released, pipeline, states)
    return _by_walk(pipeline, released.options, states)


def _states(process: TokensProcess, steps: int) -> np.ndarray:
    """int64 [steps, 1, length]: states as they come up, all but the first half filled at random."""
    random, length = np.random.default_rng(SEED), process.length
    drawn = random.integers(_classes(process), size=(steps, 1, length))
    masked = random.random((steps, 1, length)) < np.linspace(1, 0.3, steps)[:, None, None]
    return np.where(masked, _mask(process), drawn)


def _by_walk(pipeline: Pipeline, options: Mapping[str, Any], states: np.ndarray) -> dict[str, Any]:
    """The runtime's own loop, each step from the state that is given."""
    walk = pipeline.steps(PROMPT, seed=SEED, **options)
    seconds, tokens = _forced(walk, states)
    process = pipeline.bundle.manifest.plan.tokens
    shape = (process.guidance.rows(options["guidance"]), process.length, _classes(process))
    logits = np.random.default_rng(1).normal(0, 2, shape).astype(np.float32)
    # A network that answers at once leaves the sampler alone.
    beside, _ = _forced(_walk_with(process, options, lambda tokens, timestep: logits), states)
    return _facts(seconds, tokens, statistics.median(beside[1:]))


def _by_diffusers(compiled: bool, released: Released, pipeline: Pipeline, states: np.ndarray) -> dict[str, Any]:
    """diffusers' transformer and scheduler, as its pipeline calls them; then its logits in our sampler."""
    begun = pipeline.steps(PROMPT, seed=SEED, **released.options)
    made = import_module(released.peer).DiffusersStep
    peer: Peer = made(released.variant, begun.slots, released.options, compiled)
    process = pipeline.bundle.manifest.plan.tokens
    del begun, pipeline
    seconds = []
    for number, state in enumerate(states):
        began = time.perf_counter()
        peer.step(state, process.steps - 2 - number)
        seconds.append(time.perf_counter() - began)
    _, tokens = _forced(_walk_with(process, released.options, peer.logits), states)
    return _facts(seconds, tokens, None)


def _walk_with(
    process: TokensProcess, options: Mapping[str, Any], logits: Callable[[np.ndarray, int], np.ndarray]
) -> TokenWalk:
    """A walk whose network is a function of tokens and timestep."""
    guidance, scale = process.guidance, options["guidance"]

    def predict(tokens: np.ndarray, timestep: np.ndarray | int) -> dict[str, np.ndarray]:
        found = logits(tokens, int(np.max(timestep)))
        return {"logits": guidance.combined(found, guidance.rows(scale), scale)}

    return process.sampler.walk(TokenRun(predict, TokenNoise(SEED, 1), 1, process.grid, filled_in(dict(options)), {}))


def _forced(walk: Any, states: np.ndarray) -> tuple[list[float], list[list[int]]]:
    """Seconds and tokens of a step from each state, behind a first step that sets up."""
    seconds, tokens = [], []
    with on_cores(usable_cores()):
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
