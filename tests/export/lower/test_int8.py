"""int8 in a denoiser: which layers, what the file holds, how far the noise is off, and on which libraries it runs."""

import os
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from x2i.export.errors import PlanError
from x2i.export.graphs.graph_io import read_graph, write_graph
from x2i.export.graphs.graph_runs import RecordedCalls, predictions_of, relative_error, relative_l2_of_all
from x2i.export.precision import fp16
from x2i.export.precision.int8 import Recipe, quantize_layers, to_int8
from x2i.export.precision.int8_layers import LEVELS, layers_to_quantize, quantizable_layers
from x2i.export.precision.int8_probe import Int8Probe
from x2i.export.precision.int8_sensitivity import damage_table, ranges_of, rank_layers, worst_layers
from x2i.export.precision.int8_splits import split_gates, split_shortcuts
from x2i.runtime.sessions.onnxruntime_cpu import OnnxRuntimeSession

from tests.export.lower.denoiser_inputs import recorded
from tests.numerics import assert_close


@pytest.fixture(scope="module")
def calibration(tiny_bundle, tmp_path_factory) -> RecordedCalls:
    return recorded(tiny_bundle, tmp_path_factory.mktemp("calibration"), 0)


@pytest.fixture(scope="module")
def held_out(tiny_bundle, tmp_path_factory) -> RecordedCalls:
    return recorded(tiny_bundle, tmp_path_factory.mktemp("held-out"), 1, language="Chinese")


@pytest.fixture(scope="module")
def written(tiny_bundle, calibration, held_out, tmp_path_factory) -> Path:
    """The tiny denoiser at the highest level."""
    target = tmp_path_factory.mktemp("int8") / "denoiser.onnx"
    to_int8(tiny_bundle / "denoiser.onnx", target, calibration, held_out)
    return target


@pytest.fixture(scope="module")
def switched(tiny_bundle, calibration) -> Int8Probe:
    model = read_graph(tiny_bundle / "denoiser.onnx")
    split_shortcuts(model)
    layers = layers_to_quantize(quantizable_layers(model), 3)
    ranges = ranges_of(model, {layer.activation for layer in layers}, calibration, tiny_bundle)
    return Int8Probe(quantize_layers(model, layers, ranges, tiny_bundle), model, layers, tiny_bundle)


def pairs_of(model: onnx.ModelProto) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto]]:
    nodes = model.graph.node
    return [n for n in nodes if n.op_type == "QuantizeLinear"], [n for n in nodes if n.op_type == "DequantizeLinear"]


def weights_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_a_split_shortcut_computes_the_same(tiny_bundle, held_out, tmp_path):
    source = tiny_bundle / "denoiser.onnx"
    model = read_graph(source)
    joins = [
        n for n in model.graph if n.op_type == "Conv" and getattr(n.inputs[0].producer(), "op_type", "") == "Concat"
    ]
    assert split_shortcuts(model) == len(joins) > 0
    assert split_shortcuts(model) == 0
    write_graph(model, tmp_path / "split.onnx")
    onnx.checker.check_model(tmp_path / "split.onnx", full_check=True)
    for actual, expected in zip(
        predictions_of(tmp_path / "split.onnx", held_out), predictions_of(source, held_out), strict=True
    ):
        assert_close(actual, expected, "split-shortcut")


def test_a_split_gate_computes_the_same(tiny_bundle, held_out, tmp_path):
    source = tiny_bundle / "denoiser.onnx"
    model = read_graph(source)
    gates = [node for node in model.graph if node.op_type == "Split"]
    assert split_gates(model) == len(gates) > 0
    assert not [node for node in model.graph if node.op_type == "Split"]
    write_graph(model, tmp_path / "split.onnx")
    onnx.checker.check_model(tmp_path / "split.onnx", full_check=True)
    for actual, expected in zip(
        predictions_of(tmp_path / "split.onnx", held_out), predictions_of(source, held_out), strict=True
    ):
        assert_close(actual, expected, "split-shortcut")
    paths = {layer.path for layer in quantizable_layers(model)}
    assert any(path.endswith(".ff.net.0.proj.0") for path in paths) and not any(p.endswith(".proj") for p in paths)


def test_each_half_of_a_shortcut_has_its_own_scale(written):
    model = onnx.load(written)
    weights, makers = weights_of(model), {out: node for node in model.graph.node for out in node.output}
    halves = [n for n in model.graph.node if n.op_type == "Conv" and "conv_shortcut." in str(n.metadata_props)]
    scales: dict[str, set[float]] = {}
    for node in halves:
        scales.setdefault(node.name.rpartition(".")[0], set()).add(float(weights[makers[node.input[0]].input[1]]))
    assert scales and all(len(values) == 2 for values in scales.values())


def test_levels_take_more_and_more_and_skip_what_they_must(tiny_bundle):
    model = read_graph(tiny_bundle / "denoiser.onnx")
    layers = quantizable_layers(model)
    taken = [{layer.path for layer in layers_to_quantize(layers, level)} for level in LEVELS]
    assert all(less < more for less, more in pairwise(taken))
    last = [{path.rpartition(".")[2] for path in paths} for paths in taken]
    assert last[0] == {"conv1", "conv2", "conv", "proj_in"}
    assert last[1] - last[0] == {"proj", "2"} and last[2] - last[1] == {"to_q", "to_k", "to_v"}
    assert last[3] - last[2] == {"0"} and all(path.endswith("to_out.0") for path in taken[3] - taken[2])
    split_shortcuts(model)
    halves = {layer.path for layer in quantizable_layers(model)} - taken[3]
    assert halves and all(path.rpartition(".")[0].endswith("conv_shortcut") for path in halves)


def test_what_level_or_keep_cannot_mean_is_refused_at_once(tiny_bundle):
    layers = quantizable_layers(read_graph(tiny_bundle / "denoiser.onnx"))
    with pytest.raises(PlanError) as raised:
        layers_to_quantize(layers, 4, ("unet.mid_block", "nose", "*.ear"))
    assert len(raised.value.problems) == 3
    assert "1, 2, 2.5, 3, got 4" in str(raised.value) and "'nose'" in str(raised.value)
    with pytest.raises(PlanError, match="no layer is left"):
        layers_to_quantize(layers, 1, ("*",))
    assert not [layer for layer in layers_to_quantize(layers, 3, ("unet.mid_block",)) if "mid_block" in layer.path]


def test_types_and_zero_points_are_what_engines_take(tiny_bundle, written):
    onnx.checker.check_model(written, full_check=True)
    source, model = onnx.load(tiny_bundle / "denoiser.onnx"), onnx.load(written)
    assert model.opset_import == source.opset_import and len(model.functions) == len(source.functions)
    assert OnnxRuntimeSession(written).inputs == OnnxRuntimeSession(tiny_bundle / "denoiser.onnx").inputs
    weights, (quantize, dequantize) = weights_of(model), pairs_of(model)
    assert quantize and len(dequantize) > 2 * len(quantize) - 1
    for node in (*quantize, *dequantize):
        zeros = weights[node.input[2]]
        assert zeros.dtype == np.int8 and not zeros.any()
    stored = [node for node in dequantize if node.input[0] in weights]
    for node in stored:
        (axis,) = [attribute.i for attribute in node.attribute if attribute.name == "axis"]
        integers = weights[node.input[0]]
        assert integers.dtype == np.int8 and weights[node.input[1]].shape == (integers.shape[axis],)
        assert axis == (0 if integers.ndim == 4 else 1)
    assert all(weights[node.input[1]].shape == () for node in quantize)
    whole = read_graph(tiny_bundle / "denoiser.onnx")
    split_gates(whole)
    layers = {layer.node for layer in quantizable_layers(whole)}
    made = {node.output[0] for node in dequantize}
    readers = {node.name for node in model.graph.node if made & set(node.input)}
    assert {name for name in readers if "conv2d" not in name} <= layers
    # What is in int8 is not in float32 too.
    assert written.stat().st_size < 0.7 * (tiny_bundle / "denoiser.onnx").stat().st_size


def test_the_same_inputs_make_the_same_bytes(tiny_bundle, calibration, held_out, written, tmp_path):
    again = recorded(tiny_bundle, tmp_path / "samples", 0)
    to_int8(tiny_bundle / "denoiser.onnx", tmp_path / "denoiser.onnx", again, held_out)
    assert (tmp_path / "denoiser.onnx").read_bytes() == written.read_bytes()
    to_int8(tiny_bundle / "denoiser.onnx", tmp_path / "other.onnx", held_out, held_out)
    assert (tmp_path / "other.onnx").read_bytes() != written.read_bytes()


def test_the_noise_is_near_and_nearer_with_more_kept(tiny_bundle, calibration, held_out, tmp_path):
    source = tiny_bundle / "denoiser.onnx"
    done = [
        to_int8(source, tmp_path / "denoiser.onnx", calibration, held_out, Recipe(keep_fp32=keep))
        for keep in ((), ("*resnets*",))
    ]
    assert 0.15 > done[0].error > done[1].error > 0
    assert not done[0].excluded and len(done[1].excluded) + len(done[1].layers) == len(done[0].layers)
    assert done[1].error == relative_error(tmp_path / "denoiser.onnx", source, held_out)


def test_keeping_all_but_one_puts_pairs_around_one(tiny_bundle, calibration, held_out, switched, tmp_path):
    one = switched.layers[3]
    keep = tuple(layer.path for layer in switched.layers if layer != one)
    done = to_int8(tiny_bundle / "denoiser.onnx", tmp_path / "one.onnx", calibration, held_out, Recipe(keep_fp32=keep))
    assert done.layers == (one.path,) and len(pairs_of(onnx.load(tmp_path / "one.onnx"))[0]) == 1
    integers = predictions_of(tmp_path / "one.onnx", held_out)
    alone = relative_l2_of_all((switched(sample, [one.path]) for sample in held_out), integers)
    assert alone < 0.2 * done.error


def test_switched_off_it_is_the_float32_graph(tiny_bundle, held_out, switched, written):
    source = predictions_of(tiny_bundle / "denoiser.onnx", held_out)
    for sample, expected in zip(held_out, source, strict=True):
        assert_close(switched(sample, ()), expected, "split-shortcut")
    everything = [layer.path for layer in switched.layers]
    whole = [switched(sample, everything) for sample in held_out]
    assert relative_l2_of_all(whole, predictions_of(written, held_out)) < 0.3 * relative_l2_of_all(whole, source)


def test_damage_is_ranked_and_a_target_keeps_the_worst(switched, held_out):
    damage = rank_layers(switched, held_out)
    errors = [one.error for one in damage]
    assert errors == sorted(errors, reverse=True) and errors[-1] > 0
    everything = {layer.path for layer in switched.layers}
    assert {path for one in damage for path in one.layers} == everything
    expected = [switched(sample, ()) for sample in held_out]
    whole = relative_l2_of_all((switched(sample, everything) for sample in held_out), expected)
    target = 0.7 * whole
    kept = worst_layers(switched, damage, held_out, target)
    assert kept == {path for one in damage[: len(kept)] for path in one.layers} and 0 < len(kept) < len(everything)
    assert relative_l2_of_all((switched(sample, everything - kept) for sample in held_out), expected) <= target
    assert worst_layers(switched, damage, held_out, 2 * whole) == set()
    with pytest.raises(PlanError, match="--quality"):
        worst_layers(switched, damage, held_out, 1e-9)
    assert damage[0].name in damage_table(damage)[1] and len(damage_table(damage)) == len(damage) + 1


def test_a_target_reaches_the_file(tiny_bundle, calibration, held_out, tmp_path):
    source, target = tiny_bundle / "denoiser.onnx", tmp_path / "denoiser.onnx"
    whole = to_int8(source, target, calibration, held_out).error
    done = to_int8(source, target, calibration, held_out, Recipe(target=0.8 * whole))
    assert done.excluded == tuple(
        p for p in done.excluded if p in {one.name for one in done.damage[: len(done.excluded)]}
    )
    assert 0 < len(done.excluded) < len(done.layers) and done.error < 0.85 * whole


def test_the_injected_op_survives(elite_bundle, tmp_path):
    samples = recorded(elite_bundle, tmp_path / "samples", 0)
    source, target = elite_bundle / "denoiser.onnx", tmp_path / "denoiser.onnx"
    done = to_int8(source, target, samples, samples)
    before, after = onnx.load(source), onnx.load(target)
    nodes = [[n for n in model.graph.node if n.domain == "x2i"] for model in (before, after)]
    assert [n.name for n in nodes[0]] == [n.name for n in nodes[1]] != []
    assert [list(n.input) for n in nodes[0]] == [list(n.input) for n in nodes[1]]
    assert [f.SerializeToString() for f in before.functions] == [f.SerializeToString() for f in after.functions]
    assert done.error < 0.05
    session, sample = OnnxRuntimeSession(target), next(iter(samples))
    noise = session(**sample)["noise"]
    for name, array in sample.items():
        changed = session(**sample | {name: array + 1 if array.dtype == np.int64 else array * np.float32(0.5)})
        assert not np.array_equal(changed["noise"], noise), f"{name} does not matter"


def test_weights_beside_the_file_are_read_and_written_there(
    tiny_bundle, calibration, held_out, written, tmp_path, monkeypatch
):
    model = onnx.load(tiny_bundle / "denoiser.onnx")
    source = tmp_path / "source" / "denoiser.onnx"
    source.parent.mkdir()
    onnx.save(model, source, save_as_external_data=True, location="denoiser.onnx.data")
    # Bundles of one base share such a file.
    os.link(source.with_name("denoiser.onnx.data"), source.with_name("another-name"))
    monkeypatch.setattr("x2i.export.graphs.graph_io.EXTERNAL_DATA_BYTES", 1000)
    target = tmp_path / "denoiser.onnx"
    done = to_int8(source, target, calibration, held_out, Recipe(target=10.0))
    shutil.rmtree(source.parent)
    assert done.layers and target.with_name("denoiser.onnx.data").stat().st_size > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["denoiser.onnx", "denoiser.onnx.data"]
    for actual, expected in zip(predictions_of(target, held_out), predictions_of(written, held_out), strict=True):
        assert_close(actual, expected, "exact")


def test_the_rest_can_be_in_half(tiny_bundle, written, held_out, tmp_path):
    fp16.to_fp16(written, tmp_path / "half.onnx")
    onnx.checker.check_model(tmp_path / "half.onnx", full_check=True)
    assert OnnxRuntimeSession(tmp_path / "half.onnx").inputs == OnnxRuntimeSession(written).inputs
    source = predictions_of(tiny_bundle / "denoiser.onnx", held_out)
    off, half_off = (
        relative_l2_of_all(predictions_of(path, held_out), source) for path in (written, tmp_path / "half.onnx")
    )
    assert half_off < 1.3 * off
    model = onnx.load(tmp_path / "half.onnx")
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    assert {types[node.input[0]] for node in pairs_of(model)[0]} == {TensorProto.FLOAT16}


def test_openvino_runs_it(tiny_bundle, written, held_out):
    openvino = pytest.importorskip("openvino")
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(written), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    actual = [compiled(sample)[0] for sample in held_out]
    source = predictions_of(tiny_bundle / "denoiser.onnx", held_out)
    assert relative_l2_of_all(actual, source) < 2 * relative_l2_of_all(predictions_of(written, held_out), source)


def test_a_strongly_typed_network_takes_it(written, tmp_path):
    trt = pytest.importorskip("tensorrt_rtx")
    fp16.to_fp16(written, tmp_path / "half.onnx")
    logger = trt.Logger(trt.Logger.ERROR)
    for path in (written, tmp_path / "half.onnx"):
        network = trt.Builder(logger).create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        read = trt.OnnxParser(network, logger)
        assert read.parse_from_file(str(path)), read.get_error(0).desc()
        kinds = [network.get_layer(i).type for i in range(network.num_layers)]
        assert kinds.count(trt.LayerType.QUANTIZE) == len(pairs_of(onnx.load(written))[0])
