"""TensorRT-RTX builds an engine of every graph of the embedded models, in float32 and in float16, without a GPU.

Graphs that differ in their weights alone are built once: an engine's program does not depend on them.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from x2i.emoji import embedded
from x2i.export.plan import ExportPlan
from x2i.export.precision import fp16
from x2i.export.systems.registry import system_spec
from x2i.export.to_onnx import Component, to_onnx
from x2i.runtime.bundle.manifest import Graph, Manifest, Measured
from x2i.runtime.engines import builder
from x2i.runtime.engines.build_request import BuildJob
from x2i.runtime.engines.key import Range
from x2i.runtime.engines.shape_ranges import shape_ranges
from x2i.runtime.sessions.onnxruntime_cpu import OnnxRuntimeSession

from tests.bundles import SPOKEN

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed", exc_type=ImportError)
OTHERS: tuple[Callable[[Path], ExportPlan], ...] = (
    embedded.embedded_sd,
    embedded.embedded_sound,
    embedded.embedded_elite,
    embedded.embedded_fastcomposer,
)


@dataclass
class Traced:
    """Graphs by architecture, and what an engine of each must serve: `profiles` by the graph's file."""

    folder: Path
    graphs: dict[object, Graph] = field(default_factory=dict)
    profiles: dict[str, dict[str, Range]] = field(default_factory=dict)

    def add(self, plan: ExportPlan, bundle: Path | None = None) -> None:
        """A system's graphs: those of its bundle, else traced where none of the architecture has been."""
        build = system_spec(plan.system).build(plan)
        graphs = {component.name: self.graph(component, bundle) for component in build.components}
        manifest = Manifest(plan.system, plan.with_defaults(build.plan), graphs, {})
        for name, profile in shape_ranges(manifest).items():
            self.profiles[graphs[name].file] = profile

    def graph(self, component: Component, bundle: Path | None) -> Graph:
        weights = tuple((name, tuple(weight.shape)) for name, weight in component.module.state_dict().items())
        kind = component.name.partition(".")[0], tuple(component.free), weights
        if kind not in self.graphs:
            path = self.folder / f"{len(self.graphs)}-{component.name}.onnx"
            if bundle is None:
                to_onnx(component, path)
            else:
                shutil.copyfile(bundle / f"{component.name}.onnx", path)
            session = OnnxRuntimeSession(path)
            self.graphs[kind] = Graph(path.name, session.inputs, session.outputs, "fp32", Measured(0.0, 0.0))
        return self.graphs[kind]


@pytest.fixture(scope="module")
def traced(embedded_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Traced:
    made = Traced(tmp_path_factory.mktemp("graphs"))
    text = embedded.embedded_text(embedded_bundle)
    parts = {name: path for name, path in text.parts.items() if name.partition(":")[2] in ("", *SPOKEN)}
    made.add(replace(text, parts=parts), embedded_bundle)
    for plan_of in OTHERS:
        made.add(plan_of(made.folder / plan_of.__name__ / "bundle"))
    return made


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_every_graph_becomes_an_engine(traced: Traced, precision: str, tmp_path: Path) -> None:
    assert len(traced.graphs) == 17
    for graph in traced.graphs.values():
        path = traced.folder / graph.file
        if precision == "fp16":
            path = tmp_path / graph.file
            fp16.to_fp16(traced.folder / graph.file, path)
        shapes, engines = traced.profiles[graph.file], tmp_path / "engines"
        job = BuildJob("tensorrt_rtx", path.stem, str(path), precision, "", str(engines), "", graph.inputs, shapes)
        built = builder.build_engine(job, engines, lambda seconds: None)
        print(f"{path.stem}: {precision}, {built.seconds:.1f} s, {built.peak_bytes / 1e9:.2f} GB")
        assert (engines / built.engine).stat().st_size > path.stat().st_size / 2
