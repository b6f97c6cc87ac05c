"""The graph of a bundle that takes painted words: written beside its original, proven, and made anew in lower
precisions."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from x2i.runtime.bundle.manifest import Manifest
from x2i.runtime.bundle.plan import Plan
from x2i.runtime.bundle.reader import Bundle
from x2i.runtime.inputs.paint import PaintGraph, PaintInput
from x2i.runtime.inputs.text.contexts import ContextsInput
from x2i.runtime.inputs.text.prompt import TextInput

from ..proofs import cut_graphs, write_proof
from ..to_onnx import Component, numpy_arrays
from .target import painted_attention
from .variant_graph import write_paint_graph


def write_paint_variant(component: Component, plan: Plan, folder: Path) -> PaintGraph | None:
    """Writes the variant of a denoiser's graph with its proof, against torch with the same biased attention; None for
    another component, and for a plan without a prompt that words could be painted of."""
    target = component.paint
    if target is None or not target.layers or plan.find(TextInput) is None or not plan.walks_latents:
        return None
    if component.name not in (segment.graph for segment in plan.latents.segments):
        return None
    made = PaintGraph(component.name, target.layers)
    write_paint_graph(folder / f"{component.name}.onnx", folder / f"{made.variant}.onnx", target.layers)
    inputs = component.example(component.proof)
    painted = target.example(inputs)
    with painted_attention(target, painted):
        outputs = component.run(inputs)
    write_proof(folder, made.variant, numpy_arrays(inputs | painted | outputs))
    return made


def paint_input(graphs: Sequence[PaintGraph], plan: Plan) -> PaintInput | None:
    """What the plan says of its variants; None where there are none."""
    if not graphs:
        return None
    decoder, composed = plan.latents.decoder, plan.find(ContextsInput)
    texts, rest = (1, 0) if composed is None else (composed.texts, composed.rest)
    return PaintInput(tuple(graphs), decoder.channels, decoder.factor, decoder.size_multiple, texts, rest)


def without_paint(manifest: Manifest) -> Manifest:
    """The manifest without the variants, whose proofs stay among its files."""
    paint = manifest.plan.paint
    kept = manifest if paint is None else manifest.without(set(paint.variants), proofs=False)
    return replace(kept, plan=replace(manifest.plan, paint=None))


def with_paint(lowered: Bundle, paint: PaintInput | None) -> Manifest:
    """The manifest of a bundle in another precision, with the variants cut from its own graphs; their proofs are there
    already. Raises GateError past a graph's gate."""
    manifest = lowered.manifest
    if paint is None:
        return manifest
    graphs = cut_graphs(lowered, paint.graphs, write_paint_graph)
    return replace(manifest, plan=replace(manifest.plan, paint=paint), graphs=graphs)
