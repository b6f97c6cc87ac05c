"""The op as OpenVINO builds it from its own operators, against the fp32 reference."""

from functools import cache

import numpy as np
import openvino
import pytest
import torch
from torch import Tensor
from x2i.kernels.injected_attention.openvino_op import extension
from x2i.kernels.injected_attention.reference import injected_attention as reference

from tests.kernels.cases import CASES, Case, assert_as_close_as_torch
from tests.kernels.one_node import INPUTS, model
from tests.numerics import assert_close

CASE = Case(33, 9, 14, 3, 20, (4, 8, -1), (0.7, 1.3, 0.9))


@cache
def compiled(case: Case, dtype: str) -> openvino.CompiledModel:
    core = openvino.Core()
    core.add_extension(extension())
    return core.compile_model(core.read_model(model(case, dtype)), "CPU", {"EXECUTION_MODE_HINT": "ACCURACY"})


def drawn(case: Case, inputs: tuple[Tensor, ...], dtype: str = "float32") -> Tensor:
    arrays = {name: tensor.numpy() for name, tensor in zip(INPUTS, inputs, strict=True)}
    return torch.from_numpy(compiled(case, dtype)(arrays)[0])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_equal_to_the_reference(case: Case) -> None:
    inputs = case.inputs(torch.float32)
    assert_close(drawn(case, inputs).numpy(), reference(*inputs, case.heads).numpy(), "injected-attention-openvino")


def test_as_close_as_torch_in_half() -> None:
    inputs = CASE.inputs(torch.float16)
    assert_as_close_as_torch(drawn(CASE, inputs, "float16"), inputs, CASE.heads)


def test_no_strength_is_the_attention_alone_whatever_the_patches_hold() -> None:
    query, key, value, local_key, local_value, token_index, _ = CASE.inputs(torch.float32)
    off = torch.zeros(3)
    output = drawn(CASE, (query, key, value, local_key * 1e3, local_value * 1e30, token_index, off))
    assert_close(output.numpy(), drawn(CASE, (query, key, value, local_key, local_value, -token_index, off)), "exact")
    q, k, v = (tensor.unflatten(-1, (CASE.heads, -1)).transpose(1, 2) for tensor in (query, key, value))
    plain = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    assert_close(output.numpy(), plain.numpy(), "injected-attention-openvino")


def test_no_strength_is_the_attention_alone_even_where_no_query_sees_the_token() -> None:
    """The mask is 0 / 0 there."""
    query, key, *others = CASE.inputs(torch.float32)
    key = key.clone()
    key[:, 4] = -1e4 * query.abs().max()
    off = torch.zeros(3)
    output = drawn(CASE, (query.abs() + 1, key, *others[:3], torch.tensor([4, 4, 4]), off))
    unmasked = reference(query.abs() + 1, key, *others[:3], -torch.ones(3).long(), off, CASE.heads)
    assert_close(output.numpy(), unmasked.numpy(), "injected-attention-openvino")


def test_samples_never_influence_each_other() -> None:
    inputs = CASE.inputs(torch.float32)
    together = drawn(CASE, inputs)
    for sample in range(3):
        alone = drawn(CASE, tuple(tensor[sample : sample + 1] for tensor in inputs))
        assert_close(alone.numpy(), together[sample : sample + 1].numpy(), "injected-attention-openvino")


@pytest.mark.parametrize("name", INPUTS)
def test_reacts_to_every_input_of_that_sample_alone(name: str) -> None:
    place = INPUTS.index(name)
    before = CASE.inputs(torch.float32)
    after = [tensor.clone() for tensor in before]
    after[place][0] = after[place][0] + 1 if name == "token_index" else after[place][0] * 1.5 + 0.25
    change = (drawn(CASE, tuple(after)) - drawn(CASE, before)).abs().amax((1, 2))
    assert change[0] > 0.01 and not change[1:].any()


def test_no_matrix_of_probabilities_is_materialised() -> None:
    """OpenVINO runs both attentions as fused subgraphs: no softmax is left over."""
    kinds = {
        operation.get_rt_info()["layerType"].astype(str)
        for operation in compiled(CASE, "float32").get_runtime_model().get_ops()
    }
    assert "Subgraph" in kinds and "Softmax" not in kinds and "MatMul" not in kinds
    assert np.isfinite(drawn(CASE, CASE.inputs(torch.float32)).numpy()).all()
