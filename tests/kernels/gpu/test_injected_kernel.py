"""The injected attention's kernels against the fp32 reference: in Triton's interpreter here, on the device under
`make test-gpu`."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from x2i.kernels.errors import KernelError
from x2i.kernels.injected_attention.launch import injected_attention_triton
from x2i.kernels.injected_attention.op import INPUTS

from tests.kernels.cases import CASES, DTYPES, Case, assert_as_close_as_torch
from tests.kernels.gpu.conftest import Interpreted

pytest.importorskip("triton", reason="Triton is not installed")
Calls = list[tuple[tuple[Tensor, ...], int]]
Run = Callable[[Calls], list[Tensor]]


def arguments(calls: Calls) -> list[dict[str, Any]]:
    return [dict(zip(INPUTS, inputs, strict=True)) | {"num_heads": heads} for inputs, heads in calls]


@pytest.fixture(scope="module", params=["interpreter", pytest.param("cuda", marks=pytest.mark.gpu)])
def kernel(request: pytest.FixtureRequest) -> Run:
    """Runs the kernel on each of some (inputs, heads), wherever the parameter says."""
    if request.param == "interpreter":
        interpreted = request.getfixturevalue("interpreted")
        return lambda calls: interpreted("injected", arguments(calls))
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    return lambda calls: [
        injected_attention_triton(*(part.cuda() for part in inputs), heads).cpu() for inputs, heads in calls
    ]


@pytest.fixture(scope="module")
def results(kernel: Run) -> dict[tuple[Case, str], Tensor]:
    keys = [(case, dtype) for case in CASES for dtype in DTYPES]
    outputs = kernel([(case.inputs(DTYPES[dtype]), case.heads) for case, dtype in keys])
    return dict(zip(keys, outputs, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_as_close_as_torch(results: dict[tuple[Case, str], Tensor], case: Case, dtype: str) -> None:
    assert_as_close_as_torch(results[case, dtype], case.inputs(DTYPES[dtype]), case.heads)


def test_every_input_counts_and_samples_stay_apart(kernel: Run) -> None:
    """Another sample 1 leaves sample 0 as it is, bit for bit, and another value of any one input changes sample 1."""
    case = Case(40, 9, 6, 2, 24, (2, 5), (0.5, 0.9))
    first, other = case.inputs(torch.float16), Case(40, 9, 6, 2, 24, (2, 7), (0.5, 0.2)).inputs(torch.float16, seed=1)
    calls = []
    for number in range(len(INPUTS)):
        inputs = [tensor.clone() for tensor in first]
        inputs[number][1] = other[number][1]
        calls.append((tuple(inputs), case.heads))
    unchanged, *changed = kernel([(first, case.heads), *calls])
    for name, output in zip(INPUTS, changed, strict=True):
        assert torch.equal(output[0], unchanged[0]), name
        assert not torch.equal(output[1], unchanged[1]), name


def test_strength_0_skips_the_local_part(kernel: Run) -> None:
    case = Case(20, 9, 6, 2, 24, (2, -1), (0.0, 0.0))
    inputs = list(case.inputs(torch.float16))
    inputs[3] = torch.full_like(inputs[3], torch.inf)
    (output,) = kernel([(tuple(inputs), case.heads)])
    assert_as_close_as_torch(output, case.inputs(torch.float16), case.heads)


def test_a_token_that_is_not_there_gives_nan(kernel: Run) -> None:
    (output,) = kernel([(Case(20, 9, 6, 2, 24, (9,), (0.5,)).inputs(torch.float16), 2)])
    assert output.isnan().all()


def test_three_steps_give_the_same(interpreted: Interpreted) -> None:
    """Bit for bit, so that a check of the two passes holds for TensorRT's quick plugins too."""
    calls = arguments([(case.inputs(DTYPES["float16"]), case.heads) for case in CASES[1:4]])
    for launched, stepped in zip(interpreted("injected", calls), interpreted("injected_steps", calls), strict=True):
        assert torch.equal(launched, stepped)


def test_an_index_of_32_bits_will_do(kernel: Run) -> None:
    inputs = Case(20, 9, 6, 2, 24, (2, -1), (0.5, 0.5)).inputs(torch.float16)
    wide, narrow = kernel([(inputs, 2), ((*inputs[:5], inputs[5].int(), inputs[6]), 2)])
    assert torch.equal(wide, narrow)


def test_wrong_inputs_are_all_named() -> None:
    query, key, value, local_key, local_value, _, strength = Case(20, 9, 6, 2, 24).inputs(torch.float32)
    with pytest.raises(KernelError) as caught:
        injected_attention_triton(
            query, key.half(), value[:, 1:], local_key, local_value.mT, strength, strength.half(), 5
        )
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        *("query", "key", "value", "local_value", "token_index", "strength"),
        "expected 5 heads of at most 256 channels each, got 48 in all",
    ]
