"""The function that is the node's body, on ONNX Runtime against the fp32 reference."""

from functools import cache

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor
from x2i.kernels.injected_attention.reference import injected_attention as reference
from x2i.kernels.injected_attention.reference import injected_attention_sdpa as framework

from tests.kernels.cases import CASES, Case, assert_as_close_as_torch
from tests.kernels.one_node import INPUTS, model
from tests.numerics import assert_close

CASE = Case(33, 9, 14, 3, 20, (4, 8, -1), (0.7, 1.3, 0.9))


@cache
def session(case: Case, dtype: str) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model(case, dtype), providers=["CPUExecutionProvider"])


def drawn(case: Case, inputs: tuple[Tensor, ...], dtype: str = "float32") -> Tensor:
    arrays = {name: tensor.numpy() for name, tensor in zip(INPUTS, inputs, strict=True)}
    (output,) = session(case, dtype).run(None, arrays)
    return torch.from_numpy(output)


def parts(case: Case, samples: slice) -> tuple[Tensor, ...]:
    return tuple(tensor[samples] for tensor in case.inputs(torch.float32))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_equal_to_the_reference(case: Case) -> None:
    inputs = case.inputs(torch.float32)
    expected = reference(*inputs, case.heads)
    assert_close(drawn(case, inputs).numpy(), expected.numpy(), "injected-attention")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_as_close_as_torch_in_half(case: Case) -> None:
    inputs = case.inputs(torch.float16)
    assert_as_close_as_torch(drawn(case, inputs, "float16"), inputs, case.heads)


def test_no_strength_is_the_attention_alone() -> None:
    query, key, value, local_key, local_value, token_index, _ = CASE.inputs(torch.float32)
    output = drawn(CASE, (query, key, value, local_key, local_value, token_index, torch.zeros(3)))
    q, k, v = (tensor.unflatten(-1, (CASE.heads, -1)).transpose(1, 2) for tensor in (query, key, value))
    plain = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    assert_close(output.numpy(), plain.numpy(), "injected-attention")


@pytest.mark.parametrize("form", ["reference", "framework", "function"])
def test_no_strength_is_the_attention_alone_even_where_no_query_sees_the_token(form: str) -> None:
    """The mask is 0 / 0 there."""
    query, key, *others = CASE.inputs(torch.float32)
    key = key.clone()
    key[:, 4] = -1e4 * query.abs().max()
    index, off = torch.tensor([4, 4, 4]), torch.zeros(3)
    inputs = (query.abs() + 1, key, *others[:3], index, off)
    forms = {"reference": reference, "framework": framework, "function": lambda *given: drawn(CASE, given[:-1])}
    output = forms[form](*inputs, CASE.heads)
    assert_close(output.numpy(), reference(*inputs[:5], -torch.ones(3).long(), off, CASE.heads).numpy(), "elite-stage")


def test_an_index_below_zero_weights_every_position_alike() -> None:
    *tensors, _, strength = CASE.inputs(torch.float32)
    query, key, value, local_key, local_value = tensors
    output = drawn(CASE, (*tensors, torch.tensor([-1, -1, -1]), strength))
    attended = drawn(CASE, (*tensors, torch.tensor([-1, -1, -1]), torch.zeros(3)))
    swapped = (query, local_key, local_value, key, value, torch.tensor([-1, -1, -1]), torch.zeros(3))
    mirrored = Case(CASE.queries, CASE.local_tokens, CASE.tokens, CASE.heads, CASE.head_width)
    local = drawn(mirrored, swapped)
    assert_close(output.numpy(), (attended + strength.view(3, 1, 1) * local).numpy(), "injected-attention")


def test_samples_never_influence_each_other() -> None:
    together = drawn(CASE, parts(CASE, slice(None)))
    for sample in range(3):
        alone = drawn(CASE, parts(CASE, slice(sample, sample + 1)))
        assert_close(alone.numpy(), together[sample : sample + 1].numpy(), "injected-attention")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", INPUTS)
def test_reacts_to_every_input_of_that_sample_alone(name: str, dtype: str) -> None:
    place = INPUTS.index(name)
    before = CASE.inputs(getattr(torch, dtype))
    after = [tensor.clone() for tensor in before]
    after[place][0] = after[place][0] + 1 if name == "token_index" else after[place][0] * 1.5 + 0.25
    change = (drawn(CASE, tuple(after), dtype).float() - drawn(CASE, before, dtype).float()).abs().amax((1, 2))
    assert change[0] > 0.01 and not change[1:].any()


def test_positions_far_from_the_token_keep_finite_weights() -> None:
    """Where the token's share underflows everywhere but at one query, the others get none of the patches."""
    *tensors, token_index, strength = Case(5, 4, 3, 1, 8, (2,), (1.0,)).inputs(torch.float32)
    tensors[0] = torch.eye(5, 8)[None] * 300
    tensors[1] = torch.eye(4, 8)[None] * 300
    case = Case(5, 4, 3, 1, 8)
    output = drawn(case, (*tensors, token_index, strength))
    expected = reference(*tensors, token_index, strength, 1)
    assert np.isfinite(output.numpy()).all()
    assert_close(output.numpy(), expected.numpy(), "injected-attention")
    assert_close(output[0, 0].numpy(), tensors[2][0, 0].numpy(), "injected-attention")
