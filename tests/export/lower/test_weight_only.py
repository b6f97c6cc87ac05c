"""Encoders with weights in 8 and 4 bits, against goldens and trained models, and what a rewrite leaves alone."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from x2i.emoji.embedded import WEIGHTS
from x2i.export.components.text import clip_component, prompt_encoder_component
from x2i.export.errors import PlanError
from x2i.export.graphs.graph_io import read_graph, write_graph
from x2i.export.precision import fp16
from x2i.export.precision.weight_only import SMALLEST_WEIGHT_NUMBERS, to_weight_only
from x2i.export.to_onnx import Component, to_onnx
from x2i.models.stable_diffusion.base import read_stable_diffusion
from x2i.models.text_encoders.prompt_encoder import read_prompt_encoder

from tests.export.lower.weight_graphs import constants, proof, run, save
from tests.numerics import assert_close

BITS = (8, 4)
WORDS = "model.embeddings.word_embeddings.weight"


@pytest.fixture(scope="module")
def encoder(golden_bundle) -> tuple[Path, dict[str, np.ndarray], list[np.ndarray]]:
    """XLM-R of the goldens."""
    return proof(golden_bundle, "encoder")


@pytest.mark.parametrize("bits", BITS)
def test_xlmr_of_the_goldens(encoder, tmp_path, bits):
    source, inputs, (expected,) = encoder
    done = to_weight_only(source, tmp_path / "w.onnx", bits, smallest=0)
    (features,) = run(tmp_path / "w.onnx", inputs)
    assert_close(features, expected, f"weights-{bits}")
    assert WORDS in done.tables and len(done.weights) == 12 and done.excluded == ()
    assert done.bytes_after < done.bytes_before * (0.35 if bits == 8 else 0.3)


@pytest.mark.parametrize("bits", BITS)
def test_every_number_is_near_its_own(encoder, tmp_path, monkeypatch, bits):
    monkeypatch.setattr("x2i.export.precision.weight_rounding.ROWS_AT_ONCE", 7)
    source, *_ = encoder
    done = to_weight_only(source, tmp_path / "w.onnx", bits, smallest=0)
    before, after = constants(source), constants(tmp_path / "w.onnx")
    for name in (*done.weights, *done.tables):
        stored = bits if name in done.weights else 8
        values, scale = after[f"{name}.int{stored}"].astype(np.float32), after[f"{name}.scale"]
        steps = np.repeat(scale, len(values) // len(scale), axis=0) if stored == 4 else scale
        # A block's largest number may be clipped, by a third at most: that is its finest scale.
        allowed = 0.5001 if stored == 8 else 3.0001
        assert (
            name not in after and (scale > 0).all() and (np.abs(values * steps - before[name]) <= allowed * steps).all()
        )


def embedded_xlmr() -> Component:
    return prompt_encoder_component(read_prompt_encoder(WEIGHTS / "xlmr"), 24)


def embedded_clip() -> Component:
    text_encoder = read_stable_diffusion(str(WEIGHTS / "sd")).text_encoder
    assert text_encoder is not None
    return clip_component(text_encoder, 24)


@pytest.mark.parametrize("make", [embedded_xlmr, embedded_clip])
def test_trained_encoders(tmp_path, make):
    component = make()
    to_onnx(component, tmp_path / "e.onnx")
    given = component.example(component.proof)
    with torch.no_grad():
        expected = component.module(*given.values()).numpy()
    for bits in BITS:
        to_weight_only(tmp_path / "e.onnx", tmp_path / "w.onnx", bits, smallest=0)
        (context,) = run(tmp_path / "w.onnx", {name: tensor.numpy() for name, tensor in given.items()})
        assert_close(context, expected, f"weights-{bits}")


def test_small_weights_stay(encoder, tmp_path):
    source, inputs, _ = encoder
    done = to_weight_only(source, tmp_path / "w.onnx", 8)
    assert max(array.size for array in constants(source).values()) < SMALLEST_WEIGHT_NUMBERS
    assert (done.weights, done.tables) == ((), ()) and done.excluded == ("model",)
    assert all(map(np.array_equal, run(tmp_path / "w.onnx", inputs), run(source, inputs)))


def test_named_parts_stay(encoder, tmp_path):
    source, *_ = encoder
    done = to_weight_only(source, tmp_path / "w.onnx", 8, keep_fp32=("model.encoder.layer.1",), smallest=0)
    assert done.excluded == ("model.encoder.layer.1",) and len(done.weights) == 6 and WORDS in done.tables


@pytest.mark.parametrize("bits", BITS)
def test_the_same_bytes_again(encoder, tmp_path, bits):
    source, *_ = encoder
    for name in ("one.onnx", "two.onnx"):
        to_weight_only(source, tmp_path / name, bits, smallest=0)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


@pytest.mark.parametrize("bits", BITS)
def test_weights_beside_the_file(encoder, tmp_path, monkeypatch, bits):
    source, inputs, _ = encoder
    to_weight_only(source, tmp_path / "inside.onnx", bits, smallest=0)
    monkeypatch.setattr("x2i.export.precision.weight_only.EXTERNAL_FROM_BYTES", 0)
    folder = tmp_path / "beside"
    folder.mkdir()
    write_graph(read_graph(source), folder / "source.onnx", external_above=0)
    to_weight_only(folder / "source.onnx", folder / "w.onnx", bits, smallest=0)
    assert sorted(path.name for path in folder.iterdir()) == [
        "source.onnx",
        "source.onnx.data",
        "w.onnx",
        "w.onnx.data",
    ]
    assert all(map(np.array_equal, run(folder / "w.onnx", inputs), run(tmp_path / "inside.onnx", inputs)))


@pytest.mark.parametrize("bits", BITS)
def test_inputs_and_outputs_are_as_they_were(encoder, tmp_path, bits):
    source, *_ = encoder
    to_weight_only(source, tmp_path / "w.onnx", bits, smallest=0)
    before, after = (onnx.load(path) for path in (source, tmp_path / "w.onnx"))
    onnx.checker.check_model(after, full_check=True)
    assert (list(before.graph.input), list(before.graph.output)) == (list(after.graph.input), list(after.graph.output))
    assert {opset.version for opset in after.opset_import} == {20 if bits == 8 else 21}


@pytest.mark.parametrize("bits", BITS)
def test_a_graph_in_half_precision(tmp_path, bits):
    """The weight's own type is the product's: behind the rewrite to float16, the casts are where they were."""
    weight = np.random.default_rng(3).standard_normal((48, 20)).astype(np.float16)
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["h", "weight"], ["m"]),
        helper.make_node("Cast", ["m"], ["y"], to=TensorProto.FLOAT),
    ]
    save(tmp_path / "half.onnx", nodes, {"weight": weight}, [5, 48], [5, 20])
    to_weight_only(tmp_path / "half.onnx", tmp_path / "w.onnx", bits, smallest=0)
    x = np.random.default_rng(4).standard_normal((5, 48), np.float32)
    assert constants(tmp_path / "w.onnx")["weight.scale"].dtype == np.float16
    assert_close(run(tmp_path / "w.onnx", {"x": x})[0], x @ weight.astype(np.float32), f"weights-{bits}")


@pytest.mark.parametrize("half_first", [True, False])
@pytest.mark.parametrize("bits", BITS)
def test_with_the_rest_in_half_precision(encoder, tmp_path, bits, half_first):
    source, inputs, (expected,) = encoder
    if half_first:
        fp16.to_fp16(source, tmp_path / "between.onnx")
        to_weight_only(tmp_path / "between.onnx", tmp_path / "w.onnx", bits, smallest=0)
    else:
        to_weight_only(source, tmp_path / "between.onnx", bits, smallest=0)
        fp16.to_fp16(tmp_path / "between.onnx", tmp_path / "w.onnx")
    (features,) = run(tmp_path / "w.onnx", inputs)
    assert_close(features, expected, f"weights-{bits}")
    stored = constants(tmp_path / "w.onnx")
    assert {stored[name].dtype for name in stored if name.endswith(".scale")} == {np.dtype(np.float16)}


@pytest.mark.parametrize("bits", BITS)
def test_the_injected_attention_stays_one_node(elite_bundle, tmp_path, bits):
    """Its body is of opset 20, in a graph that 4 bits raise to 21."""
    source, inputs, (expected,) = proof(elite_bundle, "denoiser")
    to_weight_only(source, tmp_path / "w.onnx", bits, smallest=0)
    before, after = (onnx.load(path) for path in (source, tmp_path / "w.onnx"))
    nodes = [[node for node in model.graph.node if node.domain == "x2i"] for model in (before, after)]
    assert len(nodes[0]) == len(nodes[1]) > 0 and list(before.functions) == list(after.functions)
    assert_close(run(tmp_path / "w.onnx", inputs)[0], expected, f"weights-{bits}")


@pytest.mark.parametrize("bits", BITS)
def test_a_weight_that_lies_transposed(tmp_path, bits):
    weight = np.random.default_rng(5).standard_normal((20, 48), np.float32)
    nodes = [helper.make_node("Gemm", ["x", "weight", "bias"], ["y"], transB=1, alpha=0.5)]
    save(tmp_path / "g.onnx", nodes, {"weight": weight, "bias": np.arange(20, dtype=np.float32)}, [5, 48], [5, 20])
    to_weight_only(tmp_path / "g.onnx", tmp_path / "w.onnx", bits, smallest=0)
    x = np.random.default_rng(6).standard_normal((5, 48), np.float32)
    assert_close(run(tmp_path / "w.onnx", {"x": x})[0], 0.5 * x @ weight.T + np.arange(20), f"weights-{bits}")


def test_what_is_read_otherwise_stays(tmp_path):
    """A table that is also a graph's product, and a weight on the left side, are needed whole."""
    tied, left = np.ones((48, 48), np.float32), np.ones((48, 48), np.float32)
    nodes = [
        helper.make_node("Gather", ["tied", "x"], ["rows"]),
        helper.make_node("MatMul", ["rows", "tied"], ["a"]),
        helper.make_node("MatMul", ["left", "a"], ["y"]),
    ]
    save(tmp_path / "g.onnx", nodes, {"tied": tied, "left": left}, [48], [48, 48], TensorProto.INT64)
    done = to_weight_only(tmp_path / "g.onnx", tmp_path / "w.onnx", 8, smallest=0)
    assert (done.weights, done.tables, done.bytes_after) == ((), (), done.bytes_before)


def test_an_operator_that_opset_21_changes(tmp_path):
    ones = np.ones(2, np.float32)
    nodes = [helper.make_node("GroupNormalization", ["x", "one", "one"], ["y"], num_groups=2)]
    save(tmp_path / "g.onnx", nodes, {"one": ones}, [1, 4, 3], [1, 4, 3])
    with pytest.raises(PlanError, match="which changes GroupNormalization from opset 20; choose int8-weights"):
        to_weight_only(tmp_path / "g.onnx", tmp_path / "w.onnx", 4)
    assert not (tmp_path / "w.onnx").exists()


def test_input_channels_that_no_block_divides(tmp_path):
    weight = np.random.default_rng(7).standard_normal((50, 20), np.float32)
    save(
        tmp_path / "g.onnx", [helper.make_node("MatMul", ["x", "weight"], ["y"])], {"weight": weight}, [3, 50], [3, 20]
    )
    assert to_weight_only(tmp_path / "g.onnx", tmp_path / "w.onnx", 4, smallest=0).weights == ()
    assert to_weight_only(tmp_path / "g.onnx", tmp_path / "w.onnx", 8, smallest=0).weights == ("weight",)
