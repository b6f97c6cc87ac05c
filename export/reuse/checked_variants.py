"""Variants of a bundle's denoiser, each checked on the denoiser's own proof, and a bundle with presets."""

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
from .variants import write_variant_graph


def with_variants(bundle: Bundle, wanted: Iterable[DenoiserVariant]) -> Bundle:
    """Writes the variants that are missing into the bundle's folder; returns the bundle whose manifest names them.

    The folder's own manifest stays as it is. Raises PlanError for a graph without such features, GateError where the
    noise of a variant differs from that of the graph itself by more than the graph's gate.
    """
    graphs, files = dict(bundle.manifest.graphs), dict(bundle.manifest.files)
    missing = [variant for variant in dict.fromkeys(wanted) if variant.name not in graphs]
    for whole in dict.fromkeys(_without_features(variant) for variant in missing):
        own = [variant for variant in missing if _without_features(variant) == whole]
        proof = _write_feature_proof(bundle, whole, own)
        for variant in own:
            graphs[variant.name] = _write_checked(bundle, variant, proof)
    for graph in graphs.values():
        for name in (graph.file, *graph.proof.values()):
            files.setdefault(name, file_record(bundle.path(name)))
    return Bundle(bundle.folder, replace(bundle.manifest, graphs=graphs, files=files))


def _without_features(variant: DenoiserVariant) -> DenoiserVariant:
    return DenoiserVariant(variant.graph, kv_downsample=variant.kv_downsample)


def _write_feature_proof(bundle: Bundle, whole: DenoiserVariant, variants: list[DenoiserVariant]) -> dict[str, str]:
    """The proof's files by tensor: those of the graph, and its features for the same inputs."""
    graph = bundle.manifest.graphs[whole.graph]
    names = dict.fromkeys(name for variant in variants for name in (*variant.features_out, *variant.features_in))
    everything = replace(whole, features_out=tuple(names))
    file = bundle.path(f".{everything.name}.onnx")
    write_variant_graph(bundle.path(graph.file), file, everything)
    outputs = _open_variant(bundle, whole.graph, file)(
        **{t.name: np.load(bundle.path(graph.proof[t.name]), allow_pickle=False) for t in graph.inputs}
    )
    file.unlink()
    folder = f"proof/{whole.name}.features"
    bundle.path(folder).mkdir(exist_ok=True)
    known = graph.proof if whole.kv_downsample == 1 else {t.name: graph.proof[t.name] for t in graph.inputs}
    proof = dict(known)
    for name in outputs.keys() - known.keys():
        proof[name] = f"{folder}/{name}.npy"
        # A file that is already there may be another bundle's as well, by a link, and has its digest.
        if proof[name] not in bundle.manifest.files:
            np.save(bundle.path(proof[name]), outputs[name])
    return proof


def _write_checked(bundle: Bundle, variant: DenoiserVariant, proof: dict[str, str]) -> Graph:
    graph = bundle.manifest.graphs[variant.graph]
    file = bundle.path(f"{variant.name}.onnx")
    write_variant_graph(bundle.path(graph.file), file, variant)
    session = _open_variant(bundle, variant.graph, file)
    tensors = session.inputs, session.outputs
    own = {tensor.name: proof[tensor.name] for side in tensors for tensor in side}
    made = replace(graph, file=file.name, inputs=tensors[0], outputs=tensors[1], proof=own)
    error, gate = proof_error(bundle.folder, made, session), graph.measured.gate
    if not error <= gate:
        truth = "fp32 torch" if variant.kv_downsample == 1 else "the thinned graph it was cut from"
        raise GateError(
            f"{variant.name}: differs from {truth} by {error:.2g} of the output's spread, the gate is {gate:.2g}; "
            "please report the versions that x2i doctor prints"
        )
    return replace(made, measured=Measured(error, gate))


def _open_variant(bundle: Bundle, source: str, file: Path) -> Session:
    return open_session("cpu", replace(bundle.graph_file(source), path=file, inputs=(), outputs=()))


def with_presets(bundle: Bundle, presets: dict[str, Preset]) -> Bundle:
    """Writes the variants that the presets need into the bundle's folder; the manifest there is not touched.

    Raises PlanError and GateError as `with_variants` does.
    """
    plan = bundle.manifest.plan
    segments = plan.denoisers()
    wanted = [variant for preset in presets.values() for graph in segments for variant in preset.variants(graph)]
    made = with_variants(bundle, wanted)
    return Bundle(made.folder, replace(made.manifest, plan=replace(plan, presets=presets)))
