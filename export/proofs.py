"""A graph's proof: inputs and their expected outputs, stored beside it, and the check of the graph against them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from x2i.runtime.bundle.manifest import Graph, Measured, Precision
from x2i.runtime.bundle.proof import proof_error
from x2i.runtime.bundle.reader import Bundle
from x2i.runtime.inputs.lora import LoraGraph
from x2i.runtime.inputs.paint import PaintGraph
from x2i.runtime.sessions.backends import open_session
from x2i.runtime.sessions.session import GraphFile, Session

from .errors import GateError


def write_proof(bundle: Path, name: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Saves inputs and expected outputs of the graph `name` as `.npy` files called for their tensors."""
    folder = bundle / "proof" / name
    folder.mkdir(parents=True)
    for tensor, array in arrays.items():
        np.save(folder / f"{tensor}.npy", array)


def check_against_proof(
    bundle: Path,
    name: str,
    session: Session,
    gate: float,
    precision: Precision = "fp32",
    truth: str = "fp32 torch",
    evidence: str = "the checkpoint and the versions `x2i doctor` prints",
) -> Graph:
    """Describes the graph `name` below `bundle`, opened as `session`, with its error on the proof stored there.

    The error is the largest difference as a share of the output's standard deviation. Raises GateError where it is
    above `gate` or NaN: `truth` names what made the stored outputs, `evidence` what a report of the error should hold.
    """
    data = tuple(path.name for path in (bundle / f"{name}.onnx.data",) if path.exists())
    proof = {path.stem: f"proof/{name}/{path.name}" for path in sorted((bundle / "proof" / name).iterdir())}
    graph = Graph(f"{name}.onnx", session.inputs, session.outputs, precision, Measured(0.0, gate), data, proof)
    error = proof_error(bundle, graph, session)
    if not error <= gate:
        raise GateError(
            f"{name}: differs from {truth} by {error:.2g} of the output's spread, the gate is {gate:.2g}; "
            f"nothing was written; please report {evidence}"
        )
    return replace(graph, measured=Measured(error, gate))


def check_variant(folder: Path, name: str, original: Graph) -> Graph:
    """Describes a graph that was cut from another and reads its weights, with its error on its own proof.

    Raises GateError where it is above the original's gate.
    """
    proof = {path.stem: f"proof/{name}/{path.name}" for path in sorted((folder / "proof" / name).iterdir())}
    file = folder / f"{name}.onnx"
    session = open_session("cpu", GraphFile(name, file, original.precision))
    made = replace(
        original,
        file=file.name,
        inputs=session.inputs,
        outputs=session.outputs,
        data=(original.file, *original.data),
        proof=proof,
    )
    error, gate = proof_error(folder, made, session), original.measured.gate
    if not error <= gate:
        raise GateError(
            f"{name}: differs from torch with the same changes by {error:.2g} of the output's spread, the gate is "
            f"{gate:.2g}; nothing was written; please report the versions `x2i doctor` prints"
        )
    return replace(made, measured=Measured(error, gate))


def cut_graphs(
    lowered: Bundle, wanted: Iterable[LoraGraph | PaintGraph], write: Callable[[Path, Path, Any], object]
) -> dict[str, Graph]:
    """All graphs of a bundle in another precision, with the `wanted` ones, which `write(source, target, layers)` cuts
    from its own; their proofs are there already. Raises GateError past a graph's gate."""
    graphs = dict(lowered.manifest.graphs)
    for each in wanted:
        original = graphs[each.graph]
        write(lowered.path(original.file), lowered.path(f"{each.variant}.onnx"), each.layers)
        graphs[each.variant] = check_variant(lowered.folder, each.variant, original)
    return graphs
