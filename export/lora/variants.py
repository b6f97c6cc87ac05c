"""The graphs of a bundle that take LoRAs: written beside their originals, proven, and made anew in lower precisions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from x2i.runtime.bundle.manifest import Graph, Manifest, Measured
from x2i.runtime.bundle.proof import proof_error
from x2i.runtime.bundle.reader import Bundle
from x2i.runtime.inputs.lora import LoraGraph, LoraInput, LoraLayer
from x2i.runtime.sessions.backends import open_session
from x2i.runtime.sessions.session import GraphFile

from ..errors import GateError
from ..proofs import write_proof
from ..to_onnx import Component, numpy_arrays
from .target import random_factors, with_factors
from .variant_graph import changeable, write_lora_graph


@dataclass(frozen=True, slots=True)
class LoraVariant:
    """A graph that takes LoRAs, and the layers of its component that none can be given for: with larger kernels."""

    graph: LoraGraph
    kernels: tuple[LoraLayer, ...]


def write_lora_variant(component: Component, folder: Path) -> LoraVariant | None:
    """Writes the variant of a component's graph with its proof, against torch with the same factors in its weights;
    None for a component without such layers."""
    target, source = component.lora, folder / f"{component.name}.onnx"
    if target is None:
        return None
    layers = changeable(source, [layer for layer in target.layers() if layer.pointwise])
    if not layers:
        return None
    graph = LoraGraph(component.name, target.part, tuple(layers))
    write_lora_graph(source, folder / f"{graph.variant}.onnx", layers)
    inputs, factors = component.example(component.proof), random_factors(layers)
    with with_factors(target, layers, factors):
        outputs = component.run(inputs)
    write_proof(folder, graph.variant, factors | numpy_arrays(inputs | outputs))
    return LoraVariant(graph, tuple(layer for layer in target.layers() if not layer.pointwise))


def lora_input(variants: Sequence[LoraVariant]) -> LoraInput | None:
    """What the plan says of them."""
    if not variants:
        return None
    kernels = tuple(layer for variant in variants for layer in variant.kernels)
    return LoraInput(tuple(variant.graph for variant in variants), kernels)


def check_lora_variant(folder: Path, graph: LoraGraph, original: Graph) -> Graph:
    """Describes the variant of a graph, which reads the original's weights, with its error on its own proof.

    Raises GateError where it is above the original's gate.
    """
    name = graph.variant
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


def without_lora(manifest: Manifest) -> Manifest:
    """The manifest without the variants, whose proofs stay among its files."""
    graphs = {
        name: graph for name, graph in manifest.graphs.items() if name not in manifest.plan.lora_graphs().values()
    }
    dropped = {manifest.graphs[name].file for name in manifest.graphs.keys() - graphs.keys()}
    files = {name: record for name, record in manifest.files.items() if name not in dropped}
    return replace(manifest, plan=replace(manifest.plan, lora=None), graphs=graphs, files=files)


def with_lora(lowered: Bundle, lora: LoraInput | None) -> Manifest:
    """The manifest of a bundle in another precision, with the variants cut from its own graphs; their proofs are there
    already. Raises GateError past a graph's gate."""
    manifest = lowered.manifest
    if lora is None:
        return manifest
    graphs = dict(manifest.graphs)
    for graph in lora.graphs:
        original = graphs[graph.graph]
        write_lora_graph(lowered.path(original.file), lowered.path(f"{graph.variant}.onnx"), graph.layers)
        graphs[graph.variant] = check_lora_variant(lowered.folder, graph, original)
    return replace(manifest, plan=replace(manifest.plan, lora=lora), graphs=graphs)
