"""OpenVINO reads weights from the bundle's files: the same numbers as from copies, and no page of them is kept."""

import gc
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper
from x2i.runtime.bundle.reader import Bundle, open_bundle
from x2i.runtime.files import onnx_weights
from x2i.runtime.sessions import openvino_device, openvino_weights
from x2i.runtime.sessions.openvino_session import OpenVinoSession
from x2i.runtime.sessions.session import Settings

from tests.numerics import assert_close
from tests.runtime.sessions.test_openvino_session import inputs

ALONE = Settings(threads=1)
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@pytest.fixture(autouse=True)
def least(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded graphs' weights are small."""
    monkeypatch.setattr(onnx_weights, "LEAST_BYTES", 1024)


@pytest.fixture
def bundle(elite_bundle: Path) -> Bundle:
    return open_bundle(elite_bundle, check_files=False)


def mapped(path: Path) -> Iterator[tuple[int, int, int]]:
    """Begin, end and resident bytes of a file's mappings."""
    begin = end = 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split()[0]
        if "-" in first:
            begin, end = (int(place, 16) for place in first.split("-"))
            ours = line.endswith(str(path))
        elif first == "Rss:" and ours:
            yield begin, end, int(line.split()[1]) * 1024


def constants(model: openvino.Model) -> list[np.ndarray]:
    found = [node.data for node in model.get_ops() if node.get_type_name() == "Constant"]
    return [array for array in found if array.nbytes >= onnx_weights.LEAST_BYTES]


@pytest.mark.parametrize("system", ["elite", "ip_adapter", "fastcomposer", "sound"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_numbers_are_those_of_copied_weights(
    system: str, precision: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = open_bundle(request.getfixturevalue(f"{system}_bundle"), check_files=False)
    for name in bundle.manifest.graphs:
        graph, arrays = replace(bundle.graph_file(name), precision=precision), inputs(bundle, name)
        ours = OpenVinoSession(graph, ALONE)(**arrays)
        with monkeypatch.context() as patch:
            patch.setattr(openvino_device, "read_mapped", lambda core, path: core.read_model(path))
            copied = OpenVinoSession(graph, ALONE)(**arrays)
        for output, expected in copied.items():
            assert_close(ours[output], expected, "exact")


@LINUX
def test_weights_lie_in_the_file(bundle: Bundle) -> None:
    graph = bundle.graph_file("denoiser")
    model = openvino_device.read_model(graph, "CPU")
    ((begin, end, _),) = mapped(graph.path)
    found = constants(model)
    assert len(found) > 20 and all(begin <= array.ctypes.data < end for array in found)
    assert {parameter.get_friendly_name() for parameter in model.get_parameters()} == {t.name for t in graph.inputs}


@LINUX
@pytest.mark.parametrize(("name", "precision"), [("denoiser", "int8"), ("decoder", "fp32")])
def test_no_page_is_kept_and_the_file_is_let_go(bundle: Bundle, name: str, precision: str) -> None:
    graph = replace(bundle.graph_file(name), precision=precision)
    session = OpenVinoSession(graph, ALONE)
    first = session(**inputs(bundle, name))
    # In how many pieces it is mapped, the system and the CPU decide.
    pieces = [resident for _, _, resident in mapped(graph.path)]
    assert pieces and not any(pieces)
    for output, again in session(**inputs(bundle, name)).items():
        assert_close(again, first[output], "exact")
    del session
    gc.collect()
    assert not list(mapped(graph.path))


def test_a_processor_that_asks_for_aligned_numbers_gets_copies(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = bundle.graph_file("denoiser")
    found = constants(openvino_device.read_model(graph, "CPU"))
    assert not all(array.flags.aligned for array in found)
    monkeypatch.setattr(openvino_weights, "_reads_from_any_byte", lambda: False)
    copied = constants(openvino_device.read_model(graph, "CPU"))
    assert all(array.flags.aligned for array in copied)
    assert all(np.array_equal(one, other) for one, other in zip(copied, found, strict=True))


def test_a_weight_that_no_node_reads_is_let_be(tmp_path: Path) -> None:
    weights = [numpy_helper.from_array(np.ones((32, 32), np.float32), name) for name in ("used", "unused")]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 32]) for name in ("given", "out")]
    node = helper.make_node("MatMul", ["given", "used"], ["out"])
    graph = helper.make_graph([node], "graph", values[:1], values[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "g.onnx")
    model = openvino_weights.read_mapped(openvino.Core(), tmp_path / "g.onnx")
    assert [one.get_any_name() for one in model.inputs] == ["given"]
