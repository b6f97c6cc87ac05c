"""Optimum's graphs in a bundle, each proven against the original."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import TensorProto
from x2i.runtime.manifest import Graph, Measured, Precision
from x2i.runtime.proof import proof_error
from x2i.runtime.sessions.onnxruntime_cpu import OnnxRuntimeSession

from .errors import GateError, PlanError
from .graph_ends import external_files, read_graph, write_graph
from .optimum_layout import GRAPH
from .optimum_parts import Arrays, Part

GATE = 1e-4
"""Between two runs of one graph: room for a session that sums in another order."""


def adapted(folder: Path, work: Path, wanted: dict[str, Part], report: Callable[[str], None]) -> dict[str, Graph]:
    """Writes the parts of Optimum's `folder` that are wanted into the bundle `work`, with their proofs.

    Raises PlanError for graphs of other inputs or outputs, GateError where one differs from the original.
    """
    files = {name: folder / part.folder / GRAPH for name, part in wanted.items()}
    models = {name: read_graph(file) for name, file in files.items()}
    problems = [
        problem for name, part in wanted.items() for problem in part.problems(models[name].graph, str(files[name]))
    ]
    if problems:
        raise PlanError(*problems)
    graphs = {}
    for name, part in wanted.items():
        model = models.pop(name)
        precision: Precision = "fp16" if _is_half(model.graph.initializer) else "fp32"
        original, ours = part.example(model.graph)
        part.rewrite(model.graph)
        write_graph(model, external_files(model, files[name].parent), work / f"{name}.onnx")
        _write_proof(part, files[name], original, ours, work / "proof" / name)
        graphs[name] = _proven(work, name, precision)
        report(f"{name}: error {graphs[name].measured.error:.1e} (gate {GATE:.0e})")
    return graphs


def _write_proof(part: Part, file: Path, original: Arrays, ours: Arrays, to: Path) -> None:
    """Runs the original, and keeps what it gave under our names."""
    session = OnnxRuntimeSession(file)
    given = {tensor.name: original[tensor.name].astype(tensor.dtype) for tensor in session.inputs}
    output = session(**given)[part.output].astype(np.float32)
    to.mkdir(parents=True)
    for name, array in (ours | {part.name: output}).items():
        np.save(to / f"{name}.npy", array)


def _proven(work: Path, name: str, precision: Precision) -> Graph:
    session = OnnxRuntimeSession(work / f"{name}.onnx")
    data = tuple(path.name for path in (work / f"{name}.onnx.data",) if path.exists())
    proof = {path.stem: f"proof/{name}/{path.name}" for path in sorted((work / "proof" / name).iterdir())}
    graph = Graph(f"{name}.onnx", session.inputs, session.outputs, precision, Measured(0.0, GATE), data, proof)
    error = proof_error(work, graph, session)
    if not error <= GATE:
        raise GateError(
            f"{name}: differs from the original graph by {error:.2g} of the output's spread, the gate is {GATE:.2g}; "
            "nothing was written; please report the versions `x2i doctor` prints, and Optimum's"
        )
    return replace(graph, measured=Measured(error, GATE))


def _is_half(weights: list[TensorProto]) -> bool:
    halves = sum(tensor.data_type == TensorProto.FLOAT16 for tensor in weights)
    return halves > len(weights) / 2
