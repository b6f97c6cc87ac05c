"""The biased attention's kernels against the fp32 reference: in Triton's interpreter here, on the device under
`make test-gpu`."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from x2i.kernels.biased_attention.launch import biased_attention_triton
from x2i.kernels.biased_attention.op import INPUTS, PART_ROWS
from x2i.kernels.biased_attention.reference import biased_attention
from x2i.kernels.errors import KernelError

from tests.kernels.biased import BiasedCase, assert_as_close_as_torch_biased, written_out
from tests.numerics import assert_as_close, assert_close

pytest.importorskip("triton", reason="Triton is not installed")
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
CASES = (
    BiasedCase(3, 100, 77, 2, 40),
    BiasedCase(2, 65, 231, 1, 80),
    BiasedCase(1, PART_ROWS, 32, 3, 64),
    BiasedCase(2, 17, 77, 2, 160),
    BiasedCase(2, 130, 5, 3, 12),
    BiasedCase(2, 1, 77, 2, 36),
    BiasedCase(1, 70, 1, 1, 250),
)
EXPONENTIAL = "injected-attention-openvino"
"""The tolerance of float32 where exponentials are the device's own."""
SMALL = BiasedCase(2, 40, 9, 2, 24)
Calls = list[tuple[tuple[Tensor, ...], int]]
Run = Callable[[Calls], list[Tensor]]


@pytest.fixture(scope="module", params=["interpreter", pytest.param("cuda", marks=pytest.mark.gpu)])
def kernel(request: pytest.FixtureRequest) -> Run:
    """Runs the kernels on each of some (inputs, heads), wherever the parameter says."""
    if request.param == "interpreter":
        interpreted = request.getfixturevalue("interpreted")
        return lambda calls: interpreted(
            "biased", [dict(zip(INPUTS, inputs, strict=True)) | {"num_heads": heads} for inputs, heads in calls]
        )
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    return lambda calls: [
        biased_attention_triton(*(part.cuda() for part in inputs), heads).cpu() for inputs, heads in calls
    ]


@pytest.fixture(scope="module")
def results(kernel: Run) -> dict[tuple[BiasedCase, str], Tensor]:
    keys = [(case, dtype) for case in CASES for dtype in DTYPES]
    outputs = kernel([(case.inputs(DTYPES[dtype]), case.heads) for case, dtype in keys])
    return dict(zip(keys, outputs, strict=True))


def changed(inputs: tuple[Tensor, ...], **others: Tensor) -> tuple[Tensor, ...]:
    return tuple(dict(zip(INPUTS, inputs, strict=True), **others).values())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_as_close_as_torch(results: dict[tuple[BiasedCase, str], Tensor], case: BiasedCase, dtype: str) -> None:
    assert_as_close_as_torch_biased(results[case, dtype], case.inputs(DTYPES[dtype]), case.heads)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_float32_is_the_formula(results: dict[tuple[BiasedCase, str], Tensor], case: BiasedCase) -> None:
    expected = written_out(case.inputs(), case.heads).numpy()
    assert_close(results[case, "float32"].numpy(), expected, EXPONENTIAL)


def test_every_input_counts_and_samples_stay_apart(kernel: Run) -> None:
    """Another sample 1 leaves sample 0 as it is, bit for bit, and another value of any one input changes sample 1."""
    first, other = SMALL.inputs(torch.float16), SMALL.inputs(torch.float16, seed=1)
    calls = []
    for number in range(len(INPUTS)):
        inputs = [tensor.clone() for tensor in first]
        inputs[number][1] = other[number][1]
        calls.append((tuple(inputs), SMALL.heads))
    alone = tuple(tensor[:1] for tensor in first)
    single, unchanged, *outputs = kernel([(alone, SMALL.heads), (first, SMALL.heads), *calls])
    assert torch.equal(single[0], unchanged[0])
    for name, output in zip(INPUTS, outputs, strict=True):
        assert torch.equal(output[0], unchanged[0]), name
        assert not torch.equal(output[1], unchanged[1]), name


def test_twice_the_same_bits(kernel: Run) -> None:
    case = CASES[0]
    first, again = kernel([(case.inputs(torch.float16), case.heads)] * 2)
    assert torch.equal(first, again)


def test_without_gains_nothing_of_the_map_is_read(kernel: Run) -> None:
    """Nor of the statistics: the interpreter's memory is NaN until it is written."""
    inputs = SMALL.inputs(torch.float16)
    none = torch.zeros(2)
    inputs = changed(inputs, bias=torch.full_like(inputs[3], torch.nan), gain_max=none, gain_deviation=none)
    plain = changed(inputs, bias=torch.zeros_like(inputs[3]))
    output, of_zeros = kernel([(inputs, SMALL.heads), (plain, SMALL.heads)])
    assert torch.equal(output, of_zeros)
    assert_as_close_as_torch_biased(output, plain, SMALL.heads)


def test_a_single_score_has_no_deviation(kernel: Run) -> None:
    """As in torch it is not a number; without that gain it is not asked for."""
    inputs = BiasedCase(1, 1, 1, 1, 16).inputs()
    without, with_it = kernel([(changed(inputs, gain_deviation=torch.zeros(1)), 1), (inputs, 1)])
    assert torch.equal(without, inputs[2]) and with_it.isnan().all()


@pytest.mark.parametrize("gain", ["gain_max", "gain_deviation"])
def test_each_gain_alone(kernel: Run, gain: str) -> None:
    none = {"gain_max": torch.zeros(3), "gain_deviation": torch.zeros(3)} | {gain: torch.tensor([0.3, 0.0, 1.5])}
    inputs = changed(CASES[0].inputs(), **none)
    (output,) = kernel([(inputs, CASES[0].heads)])
    assert_close(output.numpy(), written_out(inputs, CASES[0].heads).numpy(), EXPONENTIAL)


def test_padding_counts_in_the_statistics(kernel: Run) -> None:
    """A masked token gets nothing, and its scores are among those of the maximum and the deviation still."""
    case = BiasedCase(1, 33, 40, 2, 24)
    query, key, value, bias, gain_max, gain_deviation, key_bias = case.inputs()
    key_bias[:, 5:] = -torch.inf
    # All keys of the first block but five, and all of the second.
    masked = (query, key, value, bias, gain_max, gain_deviation, key_bias)
    shorter = (query, *(tensor[:, :5].contiguous() for tensor in (key, value)), bias[..., :5].contiguous())
    output, of_few = kernel(
        [(masked, case.heads), ((*shorter, gain_max, gain_deviation, key_bias[:, :5].contiguous()), case.heads)]
    )
    assert_close(output.numpy(), written_out(masked, case.heads).numpy(), EXPONENTIAL)
    assert not torch.allclose(output, of_few, atol=1e-3)


def test_masked_keys_may_come_first(kernel: Run) -> None:
    case = BiasedCase(1, 20, 70, 2, 24)
    inputs = case.inputs()
    inputs[6][:, :66] = -torch.inf
    (output,) = kernel([(inputs, case.heads)])
    assert_close(output.numpy(), written_out(inputs, case.heads).numpy(), EXPONENTIAL)


def test_the_deviation_of_scores_that_are_large_and_alike(kernel: Run) -> None:
    """The mean of their squares and the square of their mean agree in all bits of float32: no difference of the two."""
    case = BiasedCase(1, 150, 40, 2, 16)
    query, key, *rest = case.inputs()
    query, key = (torch.where(torch.arange(32) % 16 == 0, 40.0, tensor * 0.05) for tensor in (query, key))
    inputs = changed((query, key, *rest), gain_max=torch.zeros(1), gain_deviation=torch.full((1,), 40.0))
    (output,) = kernel([(inputs, case.heads)])
    peer, exact = biased_attention(*inputs, case.heads), written_out(inputs, case.heads)
    assert_as_close(*(tensor.numpy() for tensor in (output, peer, exact)))


def test_wrong_inputs_are_all_named() -> None:
    query, key, value, bias, gain_max, gain_deviation, key_bias = SMALL.inputs()
    with pytest.raises(KernelError) as caught:
        biased_attention_triton(
            query.double(), key, value[:, 1:], bias.mT, gain_max.half(), gain_deviation, key_bias[:1], 5
        )
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        *("query", "key", "value", "bias", "gain_max", "key_bias"),
        "expected 5 heads of at most 256 channels each, got 48 in all",
    ]
