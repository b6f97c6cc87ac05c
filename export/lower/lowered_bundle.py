"""From a bundle in fp32 to one in lower precision: graphs rewritten, measured alone, and their pictures compared."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
from x2i.runtime.bundle.manifest import REVISION, Manifest, Precision
from x2i.runtime.bundle.reader import Bundle, open_bundle
from x2i.runtime.bundle.writer import file_records, new_bundle, write_manifest
from x2i.runtime.commands.plan_text import closeness_text
from x2i.runtime.commands.progress import track
from x2i.runtime.files.staging import staging_folder
from x2i.runtime.load import pipeline_of
from x2i.runtime.machine import package_versions
from x2i.runtime.pipeline import Pipeline
from x2i.runtime.sessions.backends import open_session
from x2i.runtime.sessions.session import Session, Settings

from ..errors import PlanError
from ..gate import draw_references, limits_of, measure_gate
from ..gate_cases import compared_runs
from ..judge import Judge, find_judge
from ..lora.variants import with_lora, without_lora
from ..paint.variants import with_paint, without_paint
from ..precision import fp16_emulation
from ..precision.int8 import Recipe, check_recipe
from ..tune.publish import without_presets
from .calibration import calibrate
from .lowered_graph import Calibration, check_graphs, lowered_graph
from .lowering import CALIBRATED, Lowering, choose_precisions

Report = Callable[[str], None]
PRODUCERS = ("x2i-edge", "onnx", "onnx-ir", "onnxruntime")
ROUNDED: dict[Precision, ir.DataType] = {"fp16": fp16_emulation.FLOAT16, "bf16": fp16_emulation.BFLOAT16}


def lower(folder: Path, out: Path, lowering: Lowering, report: Report = lambda line: None) -> None:
    """Writes the fp32 bundle `folder` in the precision asked for to the new folder `out`, when it has passed its gate.

    Raises PlanError for options that do not fit, InputError for a damaged bundle or a calibration set of the wrong
    kind, GateError past the gate; then nothing is left behind.
    """
    problems = lowering.problems()
    if problems:
        raise PlanError(*problems)
    opened = open_bundle(folder)
    # Found for other speeds and another error, and cut out of other graphs.
    source = replace(opened, manifest=without_paint(without_lora(without_presets(opened.manifest))))
    for name in opened.manifest.plan.presets:
        report(f"preset {name}: left out; x2i tune {out} finds one for the lowered bundle")
    precisions = precisions_of(source, lowering)
    judge = None if lowering.judge is None else find_judge(lowering.judge)
    if judge is not None:
        judge.runs(source.manifest)  # refuses a bundle that it does not know, before any work
    check_graphs(source, [name for name, precision in precisions.items() if precision != "fp32"])
    _check_recipes(source, precisions, lowering)
    with new_bundle(out) as made:
        with staging_folder(made, "calibration") as work:
            calibrations = _calibrations(source, precisions, lowering, judge, work)
            _copy_all_but_graphs(source, made)
            graphs = {
                name: lowered_graph(
                    source, name, precision, _recipe(source, name, lowering), calibrations.get(name), made, report
                )
                for name, precision in track(precisions.items(), "lowering", unit="graph")
            }
        manifest = replace(source.manifest, graphs=graphs, producer=_producer(source.manifest), revision=REVISION)
        manifest = with_lora(Bundle(made, manifest), opened.manifest.plan.lora)
        manifest = with_paint(Bundle(made, manifest), opened.manifest.plan.paint)
        manifest = replace(manifest, files=file_records(made))
        manifest = _with_gate(manifest, source, made, lowering, judge, report)
        write_manifest(made, replace(manifest, files=file_records(made)))
    report(f"{out}: {sum(file.bytes for file in manifest.files.values()) / 1e6:.1f} MB")


def precisions_of(source: Bundle, lowering: Lowering) -> dict[str, Precision]:
    """Every graph's precision; raises PlanError also where the bundle is not in fp32."""
    lowered = [name for name, graph in source.manifest.graphs.items() if graph.precision != "fp32"]
    if lowered:
        raise PlanError(f"{source.folder}: expected a bundle in fp32, but {', '.join(lowered)} is not; export it again")
    precisions = choose_precisions(source.manifest.plan, source.manifest.graphs, lowering.precision)
    if problems := list(_keep_problems(source, precisions, lowering.keep)):
        raise PlanError(*problems)
    return precisions


def _keep_problems(source: Bundle, precisions: dict[str, Precision], keep: tuple[str, ...]) -> Iterator[str]:
    """Names in front of parts that are no graph's, and parts of graphs that stay whole anyway."""
    denoisers = set(source.manifest.plan.denoisers())
    for name in keep:
        graph, _, part = name.rpartition(":")
        if graph and graph not in precisions:
            yield f"--keep {name}: expected a graph of the bundle, one of {', '.join(precisions)}, got {graph!r}"
        elif all(precisions[one] in ("fp32", "bf16") for one in ([graph] if graph else denoisers)):
            whole = graph or "the denoiser"
            yield f"--keep {name}: {whole} stays whole; name another graph, as in GRAPH:{part}, or leave it out"


def _calibrations(
    source: Bundle, precisions: dict[str, Precision], lowering: Lowering, judge: Judge | None, work: Path
) -> dict[str, Calibration]:
    calibrated = any(precision in CALIBRATED for precision in precisions.values())
    return calibrate(source, lowering, work, judge) if calibrated else {}


def _copy_all_but_graphs(source: Bundle, made: Path) -> None:
    graphs = {file for graph in source.manifest.graphs.values() for file in (graph.file, *graph.data)}
    for name in source.manifest.files:
        if name not in graphs:
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.path(name), made / name)


def _recipe(source: Bundle, name: str, lowering: Lowering) -> Recipe:
    """`--keep` names parts of the denoisers, and of another graph with its name in front: `decoder:up_blocks.3`."""
    denoisers = set(source.manifest.plan.denoisers())
    split = [keep.rpartition(":") for keep in lowering.keep]
    own = tuple(part for graph, _, part in split if graph == name or (not graph and name in denoisers))
    return Recipe(lowering.level, own, lowering.quality)


def _check_recipes(source: Bundle, precisions: dict[str, Precision], lowering: Lowering) -> None:
    """Raises PlanError for a level or a part that a graph in int8 has not, before anything is drawn for its ranges."""
    problems: list[str] = []
    for name, precision in precisions.items():
        if precision in CALIBRATED:
            try:
                check_recipe(source.path(source.manifest.graphs[name].file), _recipe(source, name, lowering))
            except PlanError as error:
                problems += error.problems
    if problems:
        raise PlanError(*dict.fromkeys(problems))


def _with_gate(
    manifest: Manifest, source: Bundle, made: Path, lowering: Lowering, judge: Judge | None, report: Report
) -> Manifest:
    """The manifest with the gate's record; raises GateError past it."""
    lowered = Bundle(made, manifest)
    # One after the other: both bundles' graphs need not be in memory at once.
    runs = compared_runs(manifest, lowering.steps, lowering.size, judge)
    cases = draw_references(pipeline_of(source, "cpu"), made, runs, "picture" in manifest.plan.process.gives)
    limits = limits_of(graph.precision for graph in manifest.graphs.values())
    with staging_folder(made, "rounded") as work:
        pipeline = emulate_fp16(source, lowered, work)
        judged = None if judge is None else judge.against(source.manifest, pipeline_of(source, "cpu"))(pipeline)
        gate = measure_gate(pipeline, made, cases, limits, judged, lowering.accept)
    for number, found in enumerate(gate.measured):
        report(f"gate, case {number}: {closeness_text(found)}")
    for problem in gate.accepted:
        report(f"accepted: {problem}")
    return replace(manifest, gate=gate)


def emulate_fp16(source: Bundle, lowered: Bundle, work: Path, threads: int | None = None) -> Pipeline:
    """The lowered bundle with stand-ins for its graphs in half, which ONNX Runtime's CPU computes in float32.

    They are written to the folder `work`, are in float32, and round to half wherever a device would.
    """
    stand_ins = {}
    for name, graph in lowered.manifest.graphs.items():
        if graph.precision in ROUNDED:
            stand_ins[name] = work / graph.file
            fp16_emulation.emulate_graph(source.path(graph.file), stand_ins[name], graph.kept, ROUNDED[graph.precision])

    def opened(name: str) -> Session:
        file = lowered.graph_file(name)
        return open_session("cpu", replace(file, path=stand_ins.get(name, file.path)), Settings(threads))

    return Pipeline(lowered, opened, threads=threads)


def _producer(manifest: Manifest) -> dict[str, str]:
    return manifest.producer | package_versions(PRODUCERS)
