"""Variants of a bundle's denoiser, each checked by the denoiser's own proof, and a bundle with the presets that
need them."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from x2i.runtime.bundle.manifest import Graph, Measured
from x2i.runtime.bundle.preset import DenoiserVariant, Preset
from x2i.runtime.bundle.proof import proof_error
from x2i.runtime.bundle.reader import Bundle, file_record
from x2i.runtime.sessions.backends import open_session
from x2i.runtime.sessions.session import Session

from ..errors import GateError
from .variants import write_variant


def with_variants(bundle: Bundle, wanted: Iterable[DenoiserVariant]) -> Bundle:
    """Writes the variants that are missing into the bundle's folder; returns the bundle whose manifest names them.

    The folder's own manifest is not touched. Raises PlanError for a graph without such features, GateError where a
    variant gives another noise than the graph itself.
    """
    graphs, files = dict(bundle.manifest.graphs), dict(bundle.manifest.files)
    missing = [variant for variant in dict.fromkeys(wanted) if variant.name not in graphs]
    for whole in dict.fromkeys(DenoiserVariant(variant.graph, thinned=variant.thinned) for variant in missing):
        own = [variant for variant in missing if (variant.graph, variant.thinned) == (whole.graph, whole.thinned)]
        proof = _proof(bundle, whole, own)
        for variant in own:
            graphs[variant.name] = _written(bundle, variant, proof)
    for graph in graphs.values():
        for name in (graph.file, *graph.proof.values()):
            files.setdefault(name, file_record(bundle.path(name)))
    return Bundle(bundle.folder, replace(bundle.manifest, graphs=graphs, files=files))


def _proof(bundle: Bundle, whole: DenoiserVariant, variants: list[DenoiserVariant]) -> dict[str, str]:
    """The proof's files by tensor: those of the graph, and its features for the same inputs."""
    graph = bundle.manifest.graphs[whole.graph]
    features = tuple(dict.fromkeys(name for variant in variants for name in (*variant.gives, *variant.takes)))
    everything = replace(whole, gives=features)
    file = bundle.path(f".{everything.name}.onnx")
    write_variant(bundle.path(graph.file), file, features, thinned=whole.thinned)
    outputs = _session(bundle, whole.graph, file)(
        **{t.name: np.load(bundle.path(graph.proof[t.name]), allow_pickle=False) for t in graph.inputs}
    )
    file.unlink()
    folder = f"proof/{whole.name}.features"
    bundle.path(folder).mkdir(exist_ok=True)
    kept = graph.proof if whole.thinned == 1 else {t.name: graph.proof[t.name] for t in graph.inputs}
    found = dict(kept)
    for name in outputs.keys() - kept.keys():
        found[name] = f"{folder}/{name}.npy"
        # What is there may be another bundle's as well, by a link, and has its digest.
        if found[name] not in bundle.manifest.files:
            np.save(bundle.path(found[name]), outputs[name])
    return found


def _written(bundle: Bundle, variant: DenoiserVariant, proof: dict[str, str]) -> Graph:
    graph = bundle.manifest.graphs[variant.graph]
    file = bundle.path(f"{variant.name}.onnx")
    write_variant(bundle.path(graph.file), file, variant.gives, variant.takes, variant.thinned)
    session = _session(bundle, variant.graph, file)
    tensors = session.inputs, session.outputs
    own = {tensor.name: proof[tensor.name] for side in tensors for tensor in side}
    made = replace(graph, file=file.name, inputs=tensors[0], outputs=tensors[1], proof=own)
    error, gate = proof_error(bundle.folder, made, session), graph.measured.gate
    if not error <= gate:
        truth = "fp32 torch" if variant.thinned == 1 else "the thinned graph it was cut from"
        raise GateError(
            f"{variant.name}: differs from {truth} by {error:.2g} of the output's spread, the gate is {gate:.2g}; "
            "please report the versions that x2i doctor prints"
        )
    return replace(made, measured=Measured(error, gate))


def _session(bundle: Bundle, source: str, file: Path) -> Session:
    return open_session("cpu", replace(bundle.graph_file(source), path=file))


def with_presets(bundle: Bundle, presets: dict[str, Preset]) -> Bundle:
    """Writes the variants that the presets need into the bundle's folder; the manifest there is not touched.

    Raises PlanError and GateError as `with_variants` does.
    """
    plan = bundle.manifest.plan
    segments = dict.fromkeys(segment.graph for segment in plan.segments)
    wanted = [variant for preset in presets.values() for graph in segments for variant in preset.variants(graph)]
    made = with_variants(bundle, wanted)
    return Bundle(made.folder, replace(made.manifest, plan=replace(plan, presets=presets)))
