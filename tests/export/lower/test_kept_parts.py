"""Which parts of a graph must stay in float32, found by rounding where a device in half would."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from x2i.export.errors import GateError
from x2i.export.graphs.part_names import is_under, part_of, shortest_names
from x2i.export.precision import fp16, fp16_emulation
from x2i.export.precision.fp16_exclusions import find_excluded, largest_error
from x2i.export.precision.fp16_probe import Fp16Probe
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.sessions.onnxruntime_cpu import OnnxRuntimeSession

GATE = 0.02
LOSSY = (7, 29)
LOUD = "decoder.up_blocks.1.resnets.0"


@pytest.fixture(scope="module")
def proof(tiny_bundle):
    folder, record = tiny_bundle, open_bundle(tiny_bundle).manifest.graphs["decoder"]
    arrays = {name: np.load(folder / file) for name, file in record.proof.items()}
    return {"latents": arrays["latents"]}, {"image": arrays["image"]}


@pytest.fixture(scope="module")
def loud(tiny_bundle, proof, tmp_path_factory) -> tuple[Path, dict[str, np.ndarray]]:
    """A decoder that draws the same picture through numbers past 65504, which a normalisation takes back."""
    model = onnx.load(tiny_bundle / "decoder.onnx")
    scaled = {f"{LOUD}.conv1.weight", f"{LOUD}.conv1.bias"}
    for tensor in model.graph.initializer:
        if tensor.name in scaled:
            scaled.remove(tensor.name)
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(2**18), tensor.name))
    assert not scaled
    path = tmp_path_factory.mktemp("loud") / "decoder.onnx"
    onnx.save(model, path)
    return path, OnnxRuntimeSession(path)(**proof[0])


def error_in_half(source: Path, folder: Path, inputs, expected, keep=()) -> float:
    twin = folder / "rounded.onnx"
    fp16_emulation.emulate_graph(source, twin, keep)
    return largest_error(OnnxRuntimeSession(twin)(**inputs), expected)


def test_numbers_past_the_largest_half_are_found(loud, proof, tmp_path):
    source, expected = loud
    assert largest_error(expected, proof[1]) < 1e-3
    assert error_in_half(source, tmp_path, proof[0], expected) == float("inf")
    found = find_excluded(source, proof[0], expected, GATE)
    assert found.before == float("inf") and found.after <= GATE
    assert found.excluded and all(is_under(name, [LOUD]) for name in found.excluded), found.excluded
    assert max(found.peaks.values()) > 65504
    assert error_in_half(source, tmp_path, proof[0], expected, found.excluded) <= GATE
    done = fp16.to_fp16(source, tmp_path / "half.onnx", found.excluded)
    assert done.excluded == found.excluded and "Conv" in done.single


def test_numbers_that_only_come_near_are_kept_too(tiny_bundle, proof, monkeypatch):
    source = tiny_bundle / "decoder.onnx"
    assert find_excluded(source, *proof, GATE).excluded == ()
    monkeypatch.setattr("x2i.export.precision.fp16_exclusions.HEADROOM", 65504 / 8.0)
    found = find_excluded(source, *proof, GATE)
    assert found.peaks and min(found.peaks.values()) > 8
    assert set(shortest_names(found.peaks, Fp16Probe(source).paths)) == set(found.excluded)


@pytest.fixture(scope="module")
def chain(tmp_path_factory) -> tuple[Path, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Forty layers, two of which lose what they add up: float16 counts in ones beside 1500."""
    random = np.random.default_rng(3)
    nodes, weights, value = [], [], "x"
    for i in range(40):
        steps = [("MatMul", np.linalg.qr(random.standard_normal((8, 8)))[0])]
        steps += [("Add", np.full(1, 1500.0)), ("Sub", np.full(1, 1500.0))] if i in LOSSY else []
        for operator, weight in steps:
            name = f"blocks.{i}.{operator.lower()}"
            weights.append(numpy_helper.from_array(weight.astype(np.float32), f"{name}.weight"))
            nodes.append(helper.make_node(operator, [value, f"{name}.weight"], [name], name=name))
            value = name
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 8]) for name in ("x", value))
    model = helper.make_model(helper.make_graph(nodes, "chain", [x], [y], weights), ir_version=10)
    model.opset_import[0].version = 20
    path = tmp_path_factory.mktemp("chain") / "chain.onnx"
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    inputs = {"x": random.standard_normal((5, 8)).astype(np.float32)}
    return path, inputs, OnnxRuntimeSession(path)(**inputs)


def test_the_fewest_parts_are_kept_that_pass_the_gate(chain, tmp_path):
    found = find_excluded(*chain, GATE)
    assert found.before > 0.1 and found.after <= GATE and not found.peaks
    assert found.excluded == tuple(f"blocks.{i}.{operator}" for i in LOSSY for operator in ("add", "sub"))
    source, *arrays = chain
    assert error_in_half(source, tmp_path, *arrays, found.excluded) == pytest.approx(found.after)
    assert find_excluded(*chain, GATE, keep_fp32=[f"blocks.{i}" for i in LOSSY]).trials == 1


def test_a_gate_that_float32_fails_is_refused(chain):
    source, inputs, expected = chain
    with pytest.raises(GateError, match=r"chain.onnx: expected an error of at most 0.02 with all in float32, got"):
        find_excluded(source, inputs, {name: array + 1 for name, array in expected.items()}, GATE)


def test_a_search_ends_with_what_passes(chain):
    found, full = find_excluded(*chain, GATE, trials=4), find_excluded(*chain, GATE)
    assert found.after <= GATE and found.trials <= 5 < full.trials
    assert all(any(is_under(name, [kept]) for kept in found.excluded) for name in full.excluded)


def test_a_graph_that_only_looks_up_keeps_nothing(tmp_path):
    table = numpy_helper.from_array(np.float32([[1, 2], [3, 4]]), "table")
    ends = [helper.make_tensor_value_info(name, kind, None) for name, kind in (("ids", 7), ("y", 1))]
    node = helper.make_node("Gather", ["table", "ids"], ["y"])
    model = helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:], [table]), ir_version=10)
    onnx.save(model, tmp_path / "lookup.onnx")
    found = find_excluded(tmp_path / "lookup.onnx", {"ids": np.int64([1])}, {"y": np.float32([[3, 4]])}, GATE)
    assert found.excluded == () and found.after == 0


def test_names_are_module_paths():
    assert part_of("unet.up_blocks.1.resnets.0.norm1.group_norm") == "unet.up_blocks.1.resnets.0"
    assert part_of("unet.conv_norm_out.group_norm_60") == "unet.conv_norm_out"
    assert part_of("conv1d") == "conv1d"
    paths = ["a.0.x", "a.0.y", "a.1.x", "b.c.x", "d"]
    assert shortest_names(["a.0.x", "a.0.y", "b.c.x"], paths) == ("a.0", "b")
    assert shortest_names(paths, paths) == ("a", "b", "d")
    assert is_under("a.0.x", ["a.0"]) and is_under("a.0.x", ["*.0"]) and not is_under("a.01.x", ["a.0"])
