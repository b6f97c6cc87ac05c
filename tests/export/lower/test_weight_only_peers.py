"""Weights in 8 and 4 bits beside another quantizer's, and what TensorRT-RTX and OpenVINO make of them."""

import logging
from pathlib import Path

import nncf
import numpy as np
import openvino
import pytest
import tensorrt_rtx
from onnx import helper, numpy_helper
from x2i.export.precision.weight_only import to_weight_only
from x2i.export.precision.weight_rounding import rounded_blocks, rounded_columns

from tests.export.lower.weight_graphs import proof, save
from tests.numerics import assert_close

BITS = (8, 4)


def test_rounding_against_nncf():
    """Positive scales cost next to nothing against the signed ones of NNCF's symmetric modes."""
    weight = np.random.default_rng(8).standard_normal((256, 48), np.float32)
    values, scale = rounded_columns(weight)
    peer = nncf_weight(weight, nncf.CompressWeightsMode.INT8_SYM)
    assert np.linalg.norm(values * scale - weight) <= 1.02 * np.linalg.norm(peer - weight)
    values, scale = rounded_blocks(weight, 128)
    peer = nncf_weight(weight, nncf.CompressWeightsMode.INT4_SYM, group_size=128, all_layers=True)
    assert np.linalg.norm(values * np.repeat(scale, 128, axis=0) - weight) <= 1.02 * np.linalg.norm(peer - weight)


@pytest.mark.parametrize("bits", BITS)
def test_tensorrt_rtx_keeps_the_weights_small(tmp_path, bits):
    weight = np.random.default_rng(9).standard_normal((512, 512), np.float32)
    save(
        tmp_path / "g.onnx",
        [helper.make_node("MatMul", ["x", "weight"], ["y"])],
        {"weight": weight},
        [3, 512],
        [3, 512],
    )
    to_weight_only(tmp_path / "g.onnx", tmp_path / "w.onnx", bits)
    assert len(engine(tmp_path / "w.onnx")) < len(engine(tmp_path / "g.onnx")) - weight.nbytes * (1 - bits / 16)


@pytest.mark.parametrize("bits", BITS)
def test_openvino_keeps_the_weights_small(golden_bundle, tmp_path, bits):
    source, inputs, (expected,) = proof(golden_bundle, "encoder")
    to_weight_only(source, tmp_path / "w.onnx", bits, smallest=0)
    model = openvino.Core().read_model(tmp_path / "w.onnx")
    held = {op.get_element_type().get_type_name() for op in model.get_ops() if op.get_type_name() == "Constant"}
    assert {"i8"} | ({"i4"} if bits == 4 else set()) <= held
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert_close(compiled(inputs)[0], expected, f"weights-{bits}")


def nncf_weight(weight: np.ndarray, mode: nncf.CompressWeightsMode, **options) -> np.ndarray:
    """What NNCF makes of a weight, spread out again."""
    nncf.set_log_level(logging.ERROR)
    x, y = (helper.make_tensor_value_info(name, 1, [1, side]) for name, side in zip("xy", weight.shape, strict=True))
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    graph = helper.make_graph([node], "graph", [x], [y], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    compressed = nncf.compress_weights(model, mode=mode, **options)
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in compressed.graph.initializer}
    scale = np.atleast_2d(held["w_scale"])
    return held["w_quantized"].astype(np.float32) * np.repeat(scale, len(weight) // len(scale), axis=0)


def engine(path: Path) -> bytes:
    """A TensorRT-RTX engine, built without a GPU and not run."""
    logger = tensorrt_rtx.Logger(tensorrt_rtx.Logger.ERROR)
    builder = tensorrt_rtx.Builder(logger)
    network = builder.create_network(1 << int(tensorrt_rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = tensorrt_rtx.OnnxParser(network, logger)
    assert parser.parse(path.read_bytes()), [str(parser.get_error(i)) for i in range(parser.num_errors)]
    return bytes(builder.build_serialized_network(network, builder.create_builder_config()))
