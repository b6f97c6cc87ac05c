"""The export, start to end: check the plan, build the system, trace its components, check the graphs, publish."""

import gc
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from x2i.runtime.bundle.manifest import Graph, Manifest
from x2i.runtime.bundle.plan import Plan
from x2i.runtime.bundle.writer import file_records, new_bundle, write_manifest
from x2i.runtime.commands.progress import track
from x2i.runtime.files.staging import staging_folder
from x2i.runtime.inputs.paint import PaintGraph
from x2i.runtime.inputs.text.items import ItemsInput
from x2i.runtime.machine import package_versions
from x2i.runtime.media.tokenizer import Tokenizer
from x2i.runtime.sessions.backends import open_session
from x2i.runtime.sessions.session import GraphFile

from .lora.variants import LoraVariant, lora_input, write_lora_variant
from .paint.variants import paint_input, write_paint_variant
from .plan import ExportPlan
from .proofs import check_against_proof, check_variant, write_proof
from .provenance import sources
from .system import SystemSpec
from .systems.registry import system_spec
from .to_onnx import Component, numpy_arrays, to_onnx

PRODUCERS = ("x2i-edge", "torch", "diffusers", "transformers", "onnx", "onnxscript", "onnxruntime")


def export_bundle(plan: ExportPlan, report: Callable[[str], None] = lambda line: None) -> None:
    """Exports a system to a bundle folder; `report` gets a line for each finished piece.

    All graphs are traced, with their proofs, before the first is opened: torch's weights and the session's are never
    in memory together. A lower precision starts from a temporary bundle in fp32. Raises PlanError, CheckpointError,
    InputError or GateError; then nothing is left behind.
    """
    system = system_spec(plan.system)
    system.check(plan)
    if not plan.lowering.lowers:
        _export_fp32(system, plan, report)
        return
    # Quantizers and judges are slow to import, and fp32 needs none.
    from .lower.lowered_bundle import lower

    plan.out.absolute().parent.mkdir(parents=True, exist_ok=True)
    with staging_folder(plan.out.absolute().parent, "fp32") as work:
        fp32 = work / "bundle"
        _export_fp32(system, replace(plan, out=fp32), report)
        lower(fp32, plan.out, plan.lowering, report)


def _export_fp32(system: SystemSpec, plan: ExportPlan, report: Callable[[str], None]) -> None:
    with new_bundle(plan.out) as folder:
        runtime_plan, gates = _trace_all(system, plan, folder, report)
        gc.collect()
        checked = track(gates.items(), "checking", unit="graph")
        graphs = {name: _check(folder, name, gate, report) for name, gate in checked}
        for variant in runtime_plan.lora.graphs if runtime_plan.lora is not None else ():
            graphs[variant.variant] = check_variant(folder, variant.variant, graphs[variant.graph])
        for painted in runtime_plan.paint.graphs if runtime_plan.paint is not None else ():
            graphs[painted.variant] = check_variant(folder, painted.variant, graphs[painted.graph])
        manifest = Manifest(
            system=plan.system,
            plan=runtime_plan,
            graphs=graphs,
            files=file_records(folder),
            sources=sources(plan),
            licences=plan.licences,
            producer=package_versions(PRODUCERS),
        )
        write_manifest(folder, manifest)
    report(f"{plan.out}: {len(graphs)} graphs, {_megabytes(manifest):.1f} MB")


def _trace_all(
    system: SystemSpec, plan: ExportPlan, folder: Path, report: Callable[[str], None]
) -> tuple[Plan, dict[str, float]]:
    """Writes tokenizers, graphs and proofs; returns the runtime's plan and every graph's gate."""
    build = system.build(plan)
    for note in build.notes:
        report(f"note: {note}")
    runtime_plan = plan.with_defaults(build.plan)
    for name, text in build.tokenizers.items():
        (folder / name).write_text(text, encoding="utf-8")
    for conditioner in runtime_plan.conditioners:
        if (read := conditioner.text) is not None:
            # What a run refuses is refused here, before the graphs.
            Tokenizer(folder / read.tokenizer, read.window, read.pad_id, read.cleans)(["a"])
        if (items := conditioner.find(ItemsInput)) is not None:
            Tokenizer(folder / items.tokenizer, items.positions, items.end).pieces("a")
    gates: dict[str, float] = {}
    loras: list[LoraVariant] = []
    painted: list[PaintGraph] = []
    for component in track(build.components, "tracing", build.count, "graph"):
        start = time.perf_counter()
        to_onnx(component, folder / f"{component.name}.onnx")
        write_proof(folder, component.name, _proof_arrays(component))
        gates[component.name] = component.gate
        if (variant := write_lora_variant(component, folder)) is not None:
            loras.append(variant)
        if (paint := write_paint_variant(component, runtime_plan, folder)) is not None:
            painted.append(paint)
        report(f"[{len(gates)}/{build.count}] {component.name}: traced in {time.perf_counter() - start:.1f} s")
    return replace(runtime_plan, lora=lora_input(loras), paint=paint_input(painted, runtime_plan)), gates


def _proof_arrays(component: Component) -> dict[str, np.ndarray]:
    """Example inputs and the fp32 torch outputs, by the names of their tensors."""
    inputs = component.example(component.proof)
    return numpy_arrays(inputs | component.run(inputs))


def _check(folder: Path, name: str, gate: float, report: Callable[[str], None]) -> Graph:
    session = open_session("cpu", GraphFile(name, folder / f"{name}.onnx"))
    graph = check_against_proof(folder, name, session, gate)
    report(f"{name}: error {graph.measured.error:.1e} (gate {gate:.0e})")
    return graph


def _megabytes(manifest: Manifest) -> float:
    return sum(file.bytes for file in manifest.files.values()) / 1e6
