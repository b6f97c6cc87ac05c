"""Every graph of every system over tokens becomes an engine: of OpenVINO, which runs it here, and of TensorRT-RTX.

Graphs that differ in their weights alone are built once: an engine's program does not depend on them.
"""

import hashlib
from importlib.util import find_spec
from pathlib import Path

import onnx
import pytest
from x2i.export.exporter import export_bundle
from x2i.export.plan import ExportPlan
from x2i.runtime.bundle.proof import proof_error
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.engines import builder
from x2i.runtime.engines.build_request import BuildRequest
from x2i.runtime.sessions.backends import open_session

from tests.bundles import tiny
from tests.made_once import made_once

SYSTEMS = (
    ("vq-diffusion", "tiny"),
    ("vq-diffusion", "tiny-class"),
    ("vq-diffusion", "tiny-nothing"),
    ("cdcd", "tiny"),
    ("cdcd-music", "tiny"),
    ("diffsound", "tiny"),
    ("unid3", "tiny"),
    ("vq-ddm", "tiny"),
    ("muse", "tiny"),
    ("ddcap", "tiny"),
)
CLOSE = 1e-3
"""Of the outputs' spread: ten times what ONNX Runtime may differ from torch, for another library's order of sums."""
BUILT: set[tuple[str, str]] = set()


def exported(system: str, variant: str) -> Path:
    """The system from tiny random weights; `tiny` is the one that other tests read, too."""
    if variant == "tiny":
        return tiny(system)
    return made_once(f"{variant}-{system}", lambda out: export_bundle(ExportPlan(system, out, random_weights=variant)))


def is_new(library: str, path: Path) -> bool:
    """Whether a library has built no graph of these nodes and shapes yet."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
    known = library, hashlib.sha256(model.SerializeToString()).hexdigest()
    if known in BUILT:
        return False
    BUILT.add(known)
    return True


@pytest.mark.parametrize(("system", "variant"), SYSTEMS)
def test_openvino_computes_every_graph(system: str, variant: str) -> None:
    pytest.importorskip("openvino")
    bundle = open_bundle(exported(system, variant))
    for name, graph in bundle.manifest.graphs.items():
        if is_new("openvino", bundle.path(graph.file)):
            session = open_session("openvino", bundle.graph_file(name))
            assert proof_error(bundle.folder, graph, session) < CLOSE, name


@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="TensorRT-RTX is not installed")
@pytest.mark.parametrize(("system", "variant"), SYSTEMS)
def test_rtx_builds_every_graph(system: str, variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bundle, engines = open_bundle(exported(system, variant)), tmp_path / "engines"
    for job in BuildRequest("rtx").jobs(bundle):
        if is_new("rtx", Path(job.path)):
            built = builder.build_engine(job, engines, lambda seconds: None)
            assert (engines / built.engine).stat().st_size > 100_000, job.name
