"""The forms made of torch's own attention, and the benchmark's promise to time nothing that is wrong or not there."""

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor
from x2i.kernels import bench
from x2i.kernels.injected_attention.reference import injected_attention, injected_attention_sdpa

from tests.kernels.cases import CASES, DTYPES, Case, assert_as_close_as_torch
from tests.numerics import assert_close

pytest.importorskip("triton", reason="Triton is not installed")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_it_equals_the_reference(case: Case) -> None:
    inputs = case.inputs(torch.float32)
    outputs = [form(*inputs, case.heads).numpy() for form in (injected_attention_sdpa, injected_attention)]
    assert_close(*outputs, "injected-attention")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES[:2], ids=lambda case: case.id)
def test_it_is_as_close_as_torch(case: Case, dtype: str) -> None:
    inputs = case.inputs(DTYPES[dtype])
    assert_as_close_as_torch(injected_attention_sdpa(*inputs, case.heads), inputs, case.heads)


def test_without_a_gpu_there_are_no_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = CliRunner().invoke(bench.bench_kernels)
    assert result.exit_code == 2
    assert result.output == "torch sees no CUDA device: nothing was measured\n"


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_biased_forms_are_as_close_as_torch(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    forms = bench.MEASURED["biased"].forms
    monkeypatch.setitem(
        bench.MEASURED,
        "biased",
        bench.TimedOp(forms | {"kernel": forms["framework"]}, bench.biased_inputs),
    )
    assert not list(bench.wrong_forms("biased", bench.biased_inputs(2, 64, 320, DTYPES[dtype], "cpu")))


@pytest.mark.parametrize("wrong", [lambda output: output + 0.01, lambda output: output * torch.nan, torch.zeros_like])
def test_a_wrong_form_is_not_timed(wrong, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt(*arguments: Tensor | int) -> Tensor:
        return wrong(injected_attention(*arguments))

    inputs = bench.injected_inputs(1, 64, 320, torch.float16, "cpu")
    forms = bench.MEASURED["injected"].forms | {"kernel": injected_attention_sdpa, "framework": spoilt}
    monkeypatch.setitem(bench.MEASURED, "injected", bench.TimedOp(forms, bench.injected_inputs))
    (problem,) = bench.wrong_forms("injected", inputs)
    assert problem.startswith("injected framework, [1, 64, 320]: largest error")
