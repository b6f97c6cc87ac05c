"""Graphs on OpenVINO that are compiled for the shapes that they are called with, and those that are not."""

import gc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from x2i.runtime.bundle.proof import proof_error
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.sessions import openvino_device, openvino_engine
from x2i.runtime.sessions.openvino_session import MAX_COMPILED_BYTES, MIN_COMPILED, OpenVinoSession
from x2i.runtime.sessions.openvino_support import SMALL_GRAPH_BYTES
from x2i.runtime.sessions.session import Settings

from tests.numerics import assert_close
from tests.runtime.sessions.test_openvino_session import FP32_ERROR, inputs

ALONE = Settings(threads=1)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list:
    """The shapes of every compilation, None for those of all shapes."""
    asked, real = [], openvino_device.compile_graph

    def noting(graph, device, settings, shapes=None, model=None):
        asked.append(shapes)
        return real(graph, device, settings, shapes, model)

    monkeypatch.setattr(openvino_device, "compile_graph", noting)
    return asked


def bound(bundle, precision: str, **changes):
    graph = replace(bundle.graph_file("denoiser"), precision=precision, **changes)
    return OpenVinoSession(graph, ALONE)


def rows(arrays: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    return {name: array[:count] for name, array in arrays.items()}


def run(session: OpenVinoSession, arrays: dict[str, np.ndarray]) -> np.ndarray:
    moving = {name: arrays[name] for name in ("latents", "timestep")}
    call = session.bind(**{name: array for name, array in arrays.items() if name not in moving})
    call(**moving)
    return call(**moving)["noise"]


def test_a_run_is_compiled_once_for_its_shapes(elite_bundle: Path, compiled: list) -> None:
    bundle = open_bundle(elite_bundle, check_files=False)
    arrays, session = inputs(bundle), bound(bundle, "int8")
    whole = openvino_device.compile_graph(replace(bundle.graph_file("denoiser"), precision="int8"), "CPU", ALONE)
    compiled.clear()
    noise = run(session, arrays)
    # Other kernels may sum in another order, in bfloat16.
    assert_close(noise, whole(arrays)["noise"], "bfloat16")
    assert_close(session(**arrays)["noise"], noise, "exact")
    assert [shapes["latents"] for shapes in compiled] == [arrays["latents"].shape]


@pytest.mark.parametrize(
    ("size", "expected"), [(MAX_COMPILED_BYTES, [1, 2, 3, 2]), (MAX_COMPILED_BYTES // 3, [1, 2, 3])]
)
def test_only_the_shapes_used_last_are_kept(tiny_bundle: Path, compiled: list, size: int, expected: list[int]) -> None:
    bundle = open_bundle(tiny_bundle, check_files=False)
    arrays, session = inputs(bundle), bound(bundle, "int8", bytes=size)
    for count in (1, 2, 1, 3, 1, 2):
        run(session, rows(arrays, count))
    assert MIN_COMPILED == 2
    assert [shapes["latents"][0] for shapes in compiled] == expected


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8-weights"])
@pytest.mark.parametrize("changes", [{"bytes": SMALL_GRAPH_BYTES}, {"looped": False}])
def test_large_graphs_and_those_outside_the_loop_are_compiled_for_all_shapes(
    tiny_bundle: Path, compiled: list, precision: str, changes: dict
) -> None:
    bundle = open_bundle(tiny_bundle, check_files=False)
    arrays, session = inputs(bundle), bound(bundle, precision, **changes)
    for count in (1, 2):
        run(session, rows(arrays, count))
    assert compiled == [None]


def test_a_small_graph_of_the_loop_is_compiled_for_its_shapes_and_gives_what_torch_does(
    elite_bundle: Path, compiled: list
) -> None:
    bundle = open_bundle(elite_bundle, check_files=False)
    arrays = inputs(bundle)
    session = bound(bundle, "fp32")
    run(session, arrays)
    assert proof_error(bundle.folder, bundle.manifest.graphs["denoiser"], session) <= FP32_ERROR
    assert [shapes["latents"] for shapes in compiled] == [arrays["latents"].shape]


def test_an_engine_serves_its_shapes_alone(
    tiny_bundle: Path, tmp_path: Path, compiled: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = open_bundle(tiny_bundle, check_files=False)
    arrays = inputs(bundle)
    graph = replace(bundle.graph_file("denoiser"), precision="int8", engines=tmp_path / "engines")
    shapes = {name: array.shape for name, array in rows(arrays, 2).items()}
    openvino_engine.build_openvino_engine(graph, ALONE, shapes)
    compiled.clear()
    monkeypatch.setattr(openvino_device, "read_model", _unread)
    session = OpenVinoSession(graph, ALONE)
    noise = run(session, rows(arrays, 2))
    assert compiled == []
    monkeypatch.undo()
    assert_close(noise, run(bound(bundle, "int8"), rows(arrays, 2)), "exact")
    real, asked = openvino_device.compile_graph, []
    monkeypatch.setattr(openvino_device, "compile_graph", lambda *rest: asked.append(rest[3]) or real(*rest))
    run(session, rows(arrays, 1))
    assert [one["latents"][0] for one in asked] == [1]


def test_a_call_outlives_the_engine_that_other_shapes_took_the_place_of(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(tiny_bundle, check_files=False)
    arrays = inputs(bundle)
    graph = replace(
        bundle.graph_file("denoiser"), bytes=MAX_COMPILED_BYTES, precision="int8", engines=tmp_path / "engines"
    )
    openvino_engine.build_openvino_engine(graph, ALONE, {name: array.shape for name, array in rows(arrays, 2).items()})
    session = OpenVinoSession(graph, ALONE)
    call = session.bind()
    noise = call(**rows(arrays, 2))["noise"]
    for count in (1, 3):
        run(session, rows(arrays, count))
    gc.collect()
    assert_close(call(**rows(arrays, 2))["noise"], noise, "exact")


def _unread(graph, device):
    raise AssertionError("read, though there is an engine")


def test_a_graph_without_an_engine_is_read_once(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And early, so that what OpenVINO cannot read is told when the bundle is loaded."""
    bundle = open_bundle(tiny_bundle, check_files=False)
    real, reads = openvino_device.read_model, []
    monkeypatch.setattr(openvino_device, "read_model", lambda *rest: reads.append(rest) or real(*rest))
    session = bound(bundle, "int8")
    assert len(reads) == 1
    arrays = inputs(bundle)
    run(session, rows(arrays, 2))
    assert len(reads) == 1
    run(session, rows(arrays, 1))
    assert len(reads) == 2
