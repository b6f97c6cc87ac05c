"""Engines of OpenVINO in a bundle: opened instead of compiling, and never trusted when they do not fit."""

import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from x2i.runtime.bundle.proof import proof_error
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.errors import InputError
from x2i.runtime.sessions import openvino_engine
from x2i.runtime.sessions.openvino_session import OpenVinoSession
from x2i.runtime.sessions.openvino_support import SMALL_GRAPH_BYTES
from x2i.runtime.sessions.session import GraphFile, Settings

from tests.numerics import assert_close
from tests.runtime.sessions.test_openvino_session import FP32_ERROR, inputs


@pytest.fixture
def graph(elite_bundle: Path, tmp_path: Path) -> GraphFile:
    """The denoiser with the op of our own, as if it were large, its engines in a folder of the test's."""
    found = open_bundle(elite_bundle, check_files=False).graph_file("denoiser")
    return replace(found, engines=tmp_path / "engines", bytes=SMALL_GRAPH_BYTES)


@pytest.fixture
def engine(graph: GraphFile) -> Path:
    return openvino_engine.build_openvino_engine(graph, Settings())


def test_an_engine_replaces_the_graph(graph: GraphFile, engine: Path, elite_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(elite_bundle, check_files=False)
    moved = replace(graph, path=tmp_path / "gone.onnx")
    session = OpenVinoSession(moved, Settings(threads=1))
    assert proof_error(bundle.folder, bundle.manifest.graphs["denoiser"], session) <= FP32_ERROR
    compiled = OpenVinoSession(replace(graph, engines=None), Settings(threads=1))
    arrays = inputs(bundle)
    assert_close(session(**arrays)["noise"], compiled(**arrays)["noise"], "exact")
    assert session.inputs == compiled.inputs and session.outputs == compiled.outputs


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"digest": "another"}, "built from another export of the graph"),
        ({"precision": "fp16"}, "built at fp32, this graph is fp16"),
    ],
)
def test_an_engine_of_another_graph_is_never_opened(graph: GraphFile, engine: Path, change, reason) -> None:
    with pytest.warns(UserWarning, match=rf"denoiser: compiled again, since no engine fits: .*{reason}"):
        OpenVinoSession(replace(graph, **change), Settings(threads=1))


def test_an_engine_cut_short_is_told_and_not_opened(graph: GraphFile, engine: Path, elite_bundle: Path) -> None:
    whole = engine.read_bytes()
    engine.write_bytes(whole[: len(whole) // 2])
    with pytest.warns(UserWarning, match=rf"cut short: {len(whole) // 2} of {len(whole)} bytes; x2i build") as told:
        session = OpenVinoSession(graph, Settings(threads=1))
    assert len(told) == 1 and len(str(told[0].message).splitlines()) == 1
    assert np.isfinite(session(**inputs(open_bundle(elite_bundle, check_files=False)))["noise"]).all()


def test_what_is_no_engine_is_refused_in_one_line(graph: GraphFile, tmp_path: Path) -> None:
    path = tmp_path / "broken.engine"
    path.write_bytes(b"no engine" * 100)
    with pytest.raises(InputError, match=r"broken.engine: OpenVINO \S+ cannot open this engine: ") as caught:
        openvino_engine.open_openvino_engine(path, graph, "CPU", Settings())
    assert len(str(caught.value).splitlines()) == 1


def test_no_engine_is_no_news(graph: GraphFile) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        OpenVinoSession(graph, Settings(threads=1))


def test_a_failed_build_leaves_nothing_behind(graph: GraphFile, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    shutil.copy(graph.path, broken)
    broken.write_bytes(broken.read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot open this graph"):
        openvino_engine.build_openvino_engine(replace(graph, path=broken), Settings())
    assert graph.engines is not None and not graph.engines.exists()
