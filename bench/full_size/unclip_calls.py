"""`python -m full_size.unclip_calls`: one call of each of unCLIP's three networks at Karlo's size, by torch and by x2i.

The weights of all fill more memory than most machines have: each network is made by itself, and every contestant runs
in a process of its own, from the same inputs.
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
import torch
from x2i.export.cascades.unclip_networks import (
    decoder_context_component,
    pixel_decoder_component,
    prior_components,
    super_resolution_component,
)
from x2i.export.to_onnx import Component, numpy_arrays, to_onnx
from x2i.models.random.cascades.unclip import random_karlo_net, random_karlo_text
from x2i.runtime.gate.metrics import relative_l2
from x2i.runtime.machine import cpu_model, package_versions, peak_memory, usable_cores
from x2i.runtime.sessions.backends import open_session
from x2i.runtime.sessions.session import GraphFile

CELLS = {"prior": {"batch": 2}, "decoder": {"batch": 2, "height": 8, "width": 8}}
CELLS["super_resolution"] = {"batch": 1, "height": 32, "width": 32}
"""The rows of a call, guided where the network is, and what it draws in cells of 8 x 8 pixels."""
CONTESTANTS = ("torch", "cpu", "openvino")
PACKAGES = ("x2i-edge", "torch", "diffusers", "onnxruntime", "openvino")
SEED = 5


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), default="build/full/unclip", show_default=True)
@click.option("--calls", type=click.IntRange(min=2), default=4, show_default=True, help="All but the first timed.")
@click.option("--network", type=click.Choice(list(CELLS)), multiple=True, help="All of them if left out.")
@click.option("--role", help="`make`, or one contestant, which prints JSON; all of them if left out.")
def unclip_calls(folder: Path, calls: int, network: tuple[str, ...], role: str | None) -> None:
    """Time one call of the prior (2 rows), the decoder (2 rows of 64 x 64) and the super resolution (256 x 256)."""
    if role is not None:
        _play(role, folder, network[0], calls)
        return
    versions = ", ".join(f"{name} {version}" for name, version in package_versions(PACKAGES).items())
    click.echo(f"{cpu_model()}, {usable_cores()} cores; {versions}")
    click.echo("| network | weights, GB | | call, s | spread, s | peak, GB | relative L2 to torch |")
    click.echo("|---|---|---|---|---|---|---|")
    for name in network or CELLS:
        if not (folder / f"{name}.onnx").is_file():
            _played("make", folder, name, calls)
        weights = sum(file.stat().st_size for file in folder.glob(f"{name}.onnx*")) / 1e9
        for contestant in CONTESTANTS:
            found = _played(contestant, folder, name, calls)
            spread, peak = f"{found['fastest']:.2f} to {found['slowest']:.2f}", found["peak"] / 1e9
            told = f"{contestant} | {found['call']:.2f} | {spread} | {peak:.1f} | {found['error']:.1e}"
            click.echo(f"| {name} | {weights:.2f} | {told} |")


def _played(role: str, folder: Path, network: str, calls: int) -> Any:
    """What a process of its own tells of a role."""
    told = ("--role", role, "--folder", str(folder), "--network", network, "--calls", str(calls))
    done = subprocess.run(
        (sys.executable, "-P", "-m", "full_size.unclip_calls", *told), stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def _play(role: str, folder: Path, network: str, calls: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    truth = folder / f"{network}.npz"
    if role == "make":
        component = _component(network)
        example = component.example(CELLS[network])
        to_onnx(component, folder / f"{network}.onnx")
        arrays: dict[str, Any] = {f"in.{name}": array for name, array in numpy_arrays(example).items()}
        np.savez(truth, **arrays, **dict[str, Any](numpy_arrays(component.run(example))))
        click.echo(json.dumps({}))
        return
    with np.load(truth) as kept:
        inputs = {name.removeprefix("in."): kept[name] for name in kept if name.startswith("in.")}
        expected = {name: kept[name] for name in kept if not name.startswith("in.")}
    call = _torch_call(network) if role == "torch" else _session_call(role, folder / f"{network}.onnx")
    seconds, made = list[float](), dict[str, np.ndarray]()
    for _ in range(calls):
        began = time.perf_counter()
        made = call(inputs)
        seconds.append(time.perf_counter() - began)
    error = max(relative_l2(made[name], array) for name, array in expected.items())
    timed = sorted(seconds[1:])
    facts = {"call": statistics.median(timed), "fastest": timed[0], "slowest": timed[-1]}
    click.echo(json.dumps(facts | {"peak": peak_memory(), "error": float(error)}))


def _component(network: str) -> Component:
    """The network with what its example inputs are made by."""
    if network == "super_resolution":
        return super_resolution_component(_net("super_res_first"), network)
    text = random_karlo_text()
    window = text.config.max_position_embeddings
    if network == "prior":
        return prior_components(_net("prior"), text, window)[0]
    context = decoder_context_component(_net("text_proj"), text, window)
    return pixel_decoder_component(_net("decoder"), context)


def _net(name: str) -> Any:
    return random_karlo_net(name, seed=SEED)


Call = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


def _torch_call(network: str) -> Call:
    component = _component(network)
    return lambda inputs: numpy_arrays(component.run({name: torch.from_numpy(each) for name, each in inputs.items()}))


def _session_call(backend: str, path: Path) -> Call:
    session = open_session(backend, GraphFile(path.stem, path))
    return lambda inputs: session(**inputs)


if __name__ == "__main__":
    unclip_calls()
