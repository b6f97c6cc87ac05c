"""The graph of a bundle that takes painted words: written beside its original, proven, and made anew in lower
precisions."""

from dataclasses import replace
from pathlib import Path

from x2i.runtime.bundle.manifest import Manifest
from x2i.runtime.bundle.plan import Plan
from x2i.runtime.bundle.reader import Bundle
from x2i.runtime.inputs.paint import PaintInput
from x2i.runtime.inputs.text.prompt import TextInput

from ..proofs import check_variant, write_proof
from ..to_onnx import Component, numpy_arrays
from .target import painted_attention
from .variant_graph import write_paint_graph


def write_paint_variant(component: Component, plan: Plan, folder: Path) -> PaintInput | None:
    """Writes the variant of a denoiser's graph with its proof, against torch with the same biased attention; None for
    another component, and for a plan without a prompt that words could be painted of."""
    target = component.paint
    if target is None or not target.layers or plan.find(TextInput) is None or not plan.walks_latents:
        return None
    process = plan.latents
    if component.name not in (segment.graph for segment in process.segments):
        return None
    decoder = process.decoder
    made = PaintInput(component.name, target.layers, decoder.channels, decoder.factor, decoder.size_multiple)
    write_paint_graph(folder / f"{component.name}.onnx", folder / f"{made.variant}.onnx", target.layers)
    inputs = component.example(component.proof)
    painted = target.example(inputs)
    with painted_attention(target, painted):
        outputs = component.run(inputs)
    write_proof(folder, made.variant, numpy_arrays(inputs | painted | outputs))
    return made


def without_paint(manifest: Manifest) -> Manifest:
    """The manifest without the variant, whose proof stays among its files."""
    paint = manifest.plan.paint
    kept = manifest if paint is None else manifest.without({paint.variant}, proofs=False)
    return replace(kept, plan=replace(manifest.plan, paint=None))


def with_paint(lowered: Bundle, paint: PaintInput | None) -> Manifest:
    """The manifest of a bundle in another precision, with the variant cut from its own graph; its proof is there
    already. Raises GateError past the graph's gate."""
    manifest = lowered.manifest
    if paint is None:
        return manifest
    original = manifest.graphs[paint.graph]
    write_paint_graph(lowered.path(original.file), lowered.path(f"{paint.variant}.onnx"), paint.layers)
    graphs = manifest.graphs | {paint.variant: check_variant(lowered.folder, paint.variant, original)}
    return replace(manifest, plan=replace(manifest.plan, paint=paint), graphs=graphs)
