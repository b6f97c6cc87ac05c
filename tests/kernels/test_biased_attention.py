"""The biased attention: its reference against a formula written out, its function and OpenVINO's form against that."""

from functools import cache

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor
from x2i.kernels.biased_attention.onnx_function import biased_function
from x2i.kernels.biased_attention.op import INPUTS, NAME
from x2i.kernels.biased_attention.reference import biased_attention
from x2i.kernels.injected_attention.onnx_function import OPSET
from x2i.kernels.injected_attention.op import ATTRIBUTES, DOMAIN, VERSION
from x2i.kernels.openvino_ops import extensions

from tests.numerics import assert_as_close, assert_close

TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}
HEADS = 3
SIZES = [(2, 33, 9, 20), (3, 1, 77, 12), (1, 50, 5, 40)]
"""Samples, queries, tokens and a head's width."""


def inputs(samples=2, queries=33, tokens=9, width=20, dtype=torch.float32):
    random = torch.Generator().manual_seed(samples + tokens)
    shapes = [(samples, queries, HEADS * width), (samples, tokens, HEADS * width), (samples, tokens, HEADS * width)]
    query, key, value = (torch.randn(shape, generator=random).to(dtype) * 1.5 for shape in shapes)
    bias = torch.rand(samples, queries, tokens, generator=random).where(
        torch.rand(samples, queries, tokens, generator=random) > 0.6, torch.zeros(())
    )
    gain_max, gain_deviation = torch.rand(2, samples, generator=random) * 0.4
    key_bias = torch.randn(samples, tokens, generator=random)
    return query, key, value, bias, gain_max, gain_deviation, key_bias


@cache
def model(dtype):
    channels = {"query": ["B", "N", "C"], "key": ["B", "T", "C"], "value": ["B", "T", "C"]}
    shapes = channels | {"bias": ["B", "N", "T"], "gain_max": ["B"], "gain_deviation": ["B"], "key_bias": ["B", "T"]}
    typed = [
        helper.make_tensor_value_info(name, TYPES[dtype] if name in channels else TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    ]
    output = helper.make_tensor_value_info("output", TYPES[dtype], ["B", "N", "C"])
    return typed, output


def serialized(dtype, width):
    typed, output = model(dtype)
    attributes = {"num_heads": HEADS, "scale": width**-0.5, **ATTRIBUTES}
    node = helper.make_node(NAME, INPUTS, ["output"], domain=DOMAIN, **attributes)
    graph = helper.make_graph([node], "one_node", typed, [output])
    versions = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    made = helper.make_model(graph, opset_imports=versions, functions=[biased_function()], ir_version=10)
    onnx.checker.check_model(made, full_check=True)
    return made.SerializeToString()


@cache
def runtime_session(dtype, width):
    return onnxruntime.InferenceSession(serialized(dtype, width), providers=["CPUExecutionProvider"])


@cache
def openvino_model(dtype, width):
    core = openvino.Core()
    core.add_extension(extensions())
    return core.compile_model(core.read_model(serialized(dtype, width)), "CPU", {"EXECUTION_MODE_HINT": "ACCURACY"})


def drawn(library, given, dtype="float32"):
    arrays = {name: tensor.numpy() for name, tensor in zip(INPUTS, given, strict=True)}
    width = given[0].shape[-1] // HEADS
    if library == "openvino":
        return openvino_model(dtype, width)(arrays)[0]
    return runtime_session(dtype, width).run(None, arrays)[0]


def written_out(query, key, value, bias, gain_max, gain_deviation, key_bias):
    """The port's formula with its scores unscaled, sample by sample and head by head, in float64."""
    out = torch.empty(query.shape, dtype=torch.float64)
    width = query.shape[-1] // HEADS
    for sample in range(len(query)):
        parts = [slice(head * width, (head + 1) * width) for head in range(HEADS)]
        scores = torch.stack([query[sample, :, p].double() @ key[sample, :, p].double().T for p in parts])
        rise = gain_max[sample] * scores.max() + gain_deviation[sample] * scores.std(correction=1)
        scores = (scores + bias[sample] * rise) / width**0.5 + key_bias[sample]
        for part, probabilities in zip(parts, scores.softmax(-1), strict=True):
            out[sample, :, part] = probabilities @ value[sample, :, part].double()
    return out


@pytest.mark.parametrize("sizes", SIZES)
def test_the_reference_is_the_formula(sizes):
    given = inputs(*sizes)
    assert_close(biased_attention(*given, HEADS).numpy(), written_out(*given).numpy(), "injected-attention")


@pytest.mark.parametrize("library", ["function", "openvino"])
@pytest.mark.parametrize("sizes", SIZES)
def test_equal_to_the_reference(library, sizes):
    given = inputs(*sizes)
    expected = biased_attention(*given, HEADS).numpy()
    assert_close(drawn(library, given), expected, "injected-attention-openvino")


@pytest.mark.parametrize("library", ["function", "openvino"])
@pytest.mark.parametrize("large", [1.0, 12.0], ids=["usual", "scores beyond float16"])
def test_as_close_as_torch_in_half(library, large):
    """Unscaled, the large scores would be infinite."""
    halves = inputs(dtype=torch.float16)
    given = (halves[0] * large, halves[1] * large, *halves[2:])
    exact = biased_attention(*(tensor.float() for tensor in given), HEADS)
    peer = biased_attention(*given, HEADS)
    found = drawn(library, given, "float16")
    assert found.dtype == np.float16 and np.isfinite(found).all()
    assert_as_close(*(np.asarray(tensor, np.float32) for tensor in (found, peer, exact)))


@pytest.mark.parametrize("library", ["function", "openvino"])
def test_without_a_gain_it_is_the_attention_alone(library):
    query, key, value, bias, *_, key_bias = inputs()
    nothing = torch.zeros(2)
    output = drawn(library, (query, key, value, bias, nothing, nothing, torch.zeros_like(key_bias)))
    q, k, v = (tensor.unflatten(-1, (HEADS, -1)).transpose(1, 2) for tensor in (query, key, value))
    plain = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    assert_close(output, plain.numpy(), "injected-attention-openvino")


def test_a_masked_token_gets_nothing():
    query, key, value, bias, gain_max, gain_deviation, key_bias = inputs()
    key_bias[:, 4] = -torch.inf
    output = drawn("function", (query, key, value, bias, gain_max, gain_deviation, key_bias))
    changed = value.clone()
    changed[:, 4] = 1e3
    assert_close(output, drawn("function", (query, key, changed, bias, gain_max, gain_deviation, key_bias)), "exact")


@pytest.mark.parametrize("library", ["function", "openvino"])
@pytest.mark.parametrize("name", INPUTS)
def test_reacts_to_every_input_of_that_sample_alone(library, name):
    before = inputs(3, 17, 6, 8)
    after: list[Tensor] = [tensor.clone() for tensor in before]
    place = INPUTS.index(name)
    after[place][0] = after[place][0] * 1.5 + torch.linspace(0, 1, after[place][0].numel()).view(after[place][0].shape)
    change = np.abs(drawn(library, tuple(after)) - drawn(library, before)).max((1, 2))
    assert change[0] > 1e-3 and not change[1:].any()
