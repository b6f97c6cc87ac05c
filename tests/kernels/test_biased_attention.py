"""The biased attention: its reference against a formula written out, its function and OpenVINO's form against that."""

from functools import cache

import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from torch import Tensor
from x2i.kernels.biased_attention.op import INPUTS
from x2i.kernels.biased_attention.reference import biased_attention, biased_attention_sdpa
from x2i.kernels.openvino_ops import extensions

from tests.kernels.biased import BiasedCase, assert_as_close_as_torch_biased, written_out
from tests.numerics import assert_close

CASES = [BiasedCase(2, 33, 9, 3, 20), BiasedCase(3, 1, 77, 3, 12), BiasedCase(1, 50, 5, 3, 40)]
CASE = CASES[0]


@cache
def runtime_session(case, dtype):
    return onnxruntime.InferenceSession(case.model(dtype), providers=["CPUExecutionProvider"])


@cache
def openvino_model(case, dtype):
    core = openvino.Core()
    core.add_extension(extensions())
    return core.compile_model(core.read_model(case.model(dtype)), "CPU", {"EXECUTION_MODE_HINT": "ACCURACY"})


def drawn(library, case, given, dtype="float32"):
    arrays = {name: tensor.numpy() for name, tensor in zip(INPUTS, given, strict=True)}
    if library == "openvino":
        return openvino_model(case, dtype)(arrays)[0]
    return runtime_session(case, dtype).run(None, arrays)[0]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_references_are_the_formula(case):
    given = case.inputs()
    expected = written_out(given, case.heads).numpy()
    assert_close(biased_attention(*given, case.heads).numpy(), expected, "injected-attention")
    assert_close(biased_attention_sdpa(*given, case.heads).numpy(), expected, "injected-attention")


@pytest.mark.parametrize("library", ["function", "openvino"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_equal_to_the_reference(library, case):
    given = case.inputs()
    expected = biased_attention(*given, case.heads).numpy()
    assert_close(drawn(library, case, given), expected, "injected-attention-openvino")


@pytest.mark.parametrize("library", ["function", "openvino"])
@pytest.mark.parametrize("large", [1.0, 12.0], ids=["usual", "scores beyond float16"])
def test_as_close_as_torch_in_half(library, large):
    """Unscaled, the large scores would be infinite."""
    halves = CASE.inputs(torch.float16)
    given = (halves[0] * large, halves[1] * large, *halves[2:])
    found = drawn(library, CASE, given, "float16")
    assert found.dtype == np.float16 and np.isfinite(found).all()
    assert_as_close_as_torch_biased(torch.from_numpy(found), given, CASE.heads)


@pytest.mark.parametrize("library", ["function", "openvino"])
def test_without_a_gain_it_is_the_attention_alone(library):
    query, key, value, bias, *_, key_bias = CASE.inputs()
    nothing = torch.zeros(2)
    output = drawn(library, CASE, (query, key, value, bias, nothing, nothing, torch.zeros_like(key_bias)))
    q, k, v = (tensor.unflatten(-1, (CASE.heads, -1)).transpose(1, 2) for tensor in (query, key, value))
    plain = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    assert_close(output, plain.numpy(), "injected-attention-openvino")


def test_a_masked_token_gets_nothing():
    query, key, value, bias, gain_max, gain_deviation, key_bias = CASE.inputs()
    key_bias[:, 4] = -torch.inf
    output = drawn("function", CASE, (query, key, value, bias, gain_max, gain_deviation, key_bias))
    changed = value.clone()
    changed[:, 4] = 1e3
    expected = drawn("function", CASE, (query, key, changed, bias, gain_max, gain_deviation, key_bias))
    assert_close(output, expected, "exact")


@pytest.mark.parametrize("library", ["function", "openvino"])
@pytest.mark.parametrize("name", INPUTS)
def test_reacts_to_every_input_of_that_sample_alone(library, name):
    case = BiasedCase(3, 17, 6, 3, 8)
    before = case.inputs()
    after: list[Tensor] = [tensor.clone() for tensor in before]
    place = INPUTS.index(name)
    after[place][0] = after[place][0] * 1.5 + torch.linspace(0, 1, after[place][0].numel()).view(after[place][0].shape)
    change = np.abs(drawn(library, case, tuple(after)) - drawn(library, case, before)).max((1, 2))
    assert change[0] > 1e-3 and not change[1:].any()
