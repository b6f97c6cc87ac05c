"""One graph rewritten in its precision, and measured against fp32 torch's stored outputs."""

import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from x2i.runtime.bundle.manifest import Graph, Measured, Precision
from x2i.runtime.bundle.proof import check_against_fp32, proof_error
from x2i.runtime.bundle.reader import Bundle
from x2i.runtime.commands.progress import track
from x2i.runtime.errors import InputError
from x2i.runtime.files.staging import staging_folder
from x2i.runtime.sessions.backends import open_session
from x2i.runtime.sessions.session import GraphFile

from ..errors import GateError
from ..graphs.graph_runs import RecordedCalls
from ..precision import fp16, fp16_emulation, int8, int8_sensitivity, weight_only
from ..precision.fp16_exclusions import Exclusions, find_excluded
from ..precision.int8 import Recipe

GRAPH_GATES: dict[Precision, float] = {
    "fp16": 0.02,
    "bf16": 0.2,
    "int8": 0.5,
    "int8+fp16": 0.5,
    "int8-weights": 0.3,
    "int4-weights": 1.5,
}
"""Largest |graph - fp32 torch| over the output's spread that a lowered graph may show on its proof, on random inputs.
It stops a broken graph; whether the pictures are good enough is the bundle's gate to say."""
FP16_GATE_SHARE = 0.5
"""The share of fp16's gate that the search for exclusions aims at: a device may round in other places."""
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Recorded inputs of one denoiser: those that set int8's ranges, and those kept apart to measure with."""

    ranges: RecordedCalls
    held_out: RecordedCalls


def check_graphs(source: Bundle, names: Collection[str]) -> None:
    """Runs graphs of an fp32 bundle on their proofs, before anything is made of them: the rewrites go by what ONNX
    Runtime has taken. Raises InputError for one that does not open or is past its own gate."""
    graphs = {name: source.manifest.graphs[name] for name in names}
    wanted = replace(source, manifest=replace(source.manifest, graphs=graphs))
    found = check_against_fp32(wanted, lambda name: open_session("cpu", source.graph_file(name)))
    for proven in track(found, "fp32 graphs", len(graphs), "graph"):
        if not proven.passed:
            path = source.path(source.manifest.graphs[proven.graph].file)
            raise InputError(
                f"{path}: expected at most {proven.gate:.0e} of the output's spread beside fp32 torch, got "
                f"{proven.error:.1e}; export it again"
            )


def lowered_graph(
    source: Bundle,
    name: str,
    precision: Precision,
    recipe: Recipe,
    calibration: Calibration | None,
    folder: Path,
    report: Report,
) -> Graph:
    """Writes the graph into `folder`, where its proof is already, and describes it; raises GateError past its gate."""
    graph = source.manifest.graphs[name]
    done = None
    if precision != "fp32":
        done = _REWRITES[precision](LowerTask(source, name, folder / graph.file, recipe, calibration, report))
    if done is None:
        for file in (graph.file, *graph.data):
            shutil.copyfile(source.path(file), folder / file)
        return graph
    data = tuple(path.name for path in (folder / f"{graph.file}.data",) if path.exists())
    made = replace(graph, precision=precision, data=data, kept=done.excluded)
    session = open_session("cpu", GraphFile(name, folder / graph.file, precision))
    error, gate = max(proof_error(folder, made, session), done.error), GRAPH_GATES[precision]
    if not error <= gate:
        raise GateError(
            f"{name}: in {precision} it differs from fp32 torch by {error:.2g} of the output's spread, the gate is "
            f"{gate:.2g}; nothing was written; keep more of it (--keep {name}:PART), or leave it in fp32"
        )
    report(f"{name}: {precision}, error {error:.1e} (gate {gate:.0e}){_exclusion_text(done.excluded)}")
    return replace(made, measured=Measured(error, gate))


@dataclass(frozen=True, slots=True)
class LowerTask:
    """What a rewrite works on: a graph of an fp32 bundle, the file to write, the recipe, and calibration data."""

    source: Bundle
    name: str
    target: Path
    recipe: Recipe
    calibration: Calibration | None
    report: Report

    @property
    def path(self) -> Path:
        """The file of the fp32 graph."""
        return self.source.path(self.source.manifest.graphs[self.name].file)


@dataclass(frozen=True, slots=True)
class LowerResult:
    """What stayed in higher precision, and the error on the proof where it was emulated.

    ONNX Runtime's CPU computes float16 in float32 and would show none.
    """

    excluded: tuple[str, ...]
    error: float = 0.0


Rewrite = Callable[[LowerTask], LowerResult | None]
"""Writes the target; returns None, and writes nothing, where no part of the graph takes the precision."""


def _lower_to_fp16(task: LowerTask) -> LowerResult:
    found = _find_exclusions(task, task.recipe.keep_fp32)
    fp16.to_fp16(task.path, task.target, found.excluded)
    return LowerResult(found.excluded, found.after)


def _lower_to_bf16(task: LowerTask) -> LowerResult:
    """The same file: what a device makes of it is measured on a twin that rounds as it would."""
    graph = task.source.manifest.graphs[task.name]
    for file in (graph.file, *graph.data):
        shutil.copyfile(task.source.path(file), task.target.parent / file)
    with staging_folder(task.target.parent, "bf16") as work:
        twin = work / task.target.name
        fp16_emulation.emulate_graph(task.path, twin, to=fp16_emulation.BFLOAT16)
        error = proof_error(task.source.folder, graph, open_session("cpu", GraphFile(task.name, twin)))
    return LowerResult((), error)


def _find_exclusions(task: LowerTask, keep_fp32: tuple[str, ...]) -> Exclusions:
    """The parts that half precision damages on the graph's own proof."""
    graph = task.source.manifest.graphs[task.name]
    arrays = {key: np.load(task.source.path(file), allow_pickle=False) for key, file in graph.proof.items()}
    inputs = {tensor.name: arrays[tensor.name] for tensor in graph.inputs}
    expected = {tensor.name: arrays[tensor.name] for tensor in graph.outputs}
    return find_excluded(task.path, inputs, expected, FP16_GATE_SHARE * GRAPH_GATES["fp16"], keep_fp32)


def _lower_to_int8(task: LowerTask) -> LowerResult:
    assert task.calibration is not None, "a denoiser in int8 without calibration"
    ranges, held_out = task.calibration.ranges, task.calibration.held_out
    done = int8.to_int8(task.path, task.target, ranges, held_out, task.recipe)
    for line in int8_sensitivity.damage_table(done.damage) if done.damage else ():
        task.report(line)
    task.report(
        f"{task.name}: {len(done.layers)} layers in int8, its prediction differs by {done.error:.2%} on runs kept apart"
    )
    return LowerResult(done.excluded)


def _lower_to_int8_and_fp16(task: LowerTask) -> LowerResult:
    with staging_folder(task.target.parent, "int8") as work:
        quantized = work / task.target.name
        layers = _lower_to_int8(replace(task, target=quantized))
        parts = _find_exclusions(task, ())
        fp16.to_fp16(quantized, task.target, parts.excluded)
    return LowerResult(tuple(dict.fromkeys((*layers.excluded, *parts.excluded))))


def _lower_weights(bits: int) -> Rewrite:
    def rewritten(task: LowerTask) -> LowerResult | None:
        done = weight_only.to_weight_only(task.path, task.target, bits, keep_fp32=task.recipe.keep_fp32)
        count = len(done.weights) + len(done.tables)
        if not count:
            task.report(f"{task.name}: no weight is large enough to be stored in {bits} bits; it stays in fp32")
            return None
        task.report(
            f"{task.name}: {count} weights in {bits} bits, {done.bytes_before / 1e6:.1f} MB of constants are now "
            f"{done.bytes_after / 1e6:.1f} MB"
        )
        return LowerResult(done.excluded)

    return rewritten


_REWRITES: dict[Precision, Rewrite] = {
    "fp16": _lower_to_fp16,
    "bf16": _lower_to_bf16,
    "int8": _lower_to_int8,
    "int8+fp16": _lower_to_int8_and_fp16,
    "int8-weights": _lower_weights(8),
    "int4-weights": _lower_weights(4),
}


def _exclusion_text(excluded: tuple[str, ...]) -> str:
    return f", in higher precision: {', '.join(excluded)}" if excluded else ""
