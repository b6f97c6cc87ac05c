"""The graphs of a bundle that take LoRAs: written beside their originals, proven, and made anew in lower precisions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from x2i.runtime.bundle.manifest import Manifest
from x2i.runtime.bundle.reader import Bundle
from x2i.runtime.inputs.lora import LoraGraph, LoraInput, LoraLayer

from ..proofs import cut_graphs, write_proof
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


def without_lora(manifest: Manifest) -> Manifest:
    """The manifest without the variants, whose proofs stay among its files."""
    kept = manifest.without(manifest.plan.lora_graphs().values(), proofs=False)
    return replace(kept, plan=replace(manifest.plan, lora=None))


def with_lora(lowered: Bundle, lora: LoraInput | None) -> Manifest:
    """The manifest of a bundle in another precision, with the variants cut from its own graphs; their proofs are there
    already. Raises GateError past a graph's gate."""
    manifest = lowered.manifest
    if lora is None:
        return manifest
    graphs = cut_graphs(lowered, lora.graphs, write_lora_graph)
    return replace(manifest, plan=replace(manifest.plan, lora=lora), graphs=graphs)
