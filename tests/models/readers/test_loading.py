"""Strict loading: everything that does not fit is listed at once, and nothing is loaded until all fits."""

import pytest
import torch
from torch import nn
from x2i.models.errors import CheckpointError
from x2i.models.readers.loading import Load, build_module, load_all_strictly, load_strictly

SOURCE = "model.ckpt"


def module() -> nn.Module:
    return build_module(lambda: nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5)), SOURCE)


def state() -> dict[str, torch.Tensor]:
    return {"0.weight": torch.randn(5, 3), "0.bias": torch.randn(5), "1.weight": torch.ones(5), "1.bias": torch.ones(5)}


def test_all_misfits_are_listed_at_once():
    tensors = {
        **state(),
        "0.weight": torch.ones(5, 4),
        "1.bias": torch.ones(5, dtype=torch.int8),
        "extra": torch.ones(2),
    }
    del tensors["1.weight"]
    with pytest.raises(CheckpointError) as caught:
        load_strictly(module(), tensors, source=SOURCE)
    headline, *lines = caught.value.problems
    assert "1 missing, 1 unexpected, 2 wrongly shaped" in headline and "fix: " in headline
    assert [line.strip() for line in lines] == [
        "missing 1.weight [5]",
        "unexpected extra [2]",
        "wrong 0.weight: expected [5, 3], got [5, 4]",
        "wrong 1.bias: expected [5], got [5] torch.int8",
    ]


def test_known_extras_and_other_names():
    tensors = {f"net.{key}": value for key, value in state().items()}
    target = module()
    names = {key: f"net.{key}" for key in state()}
    load_strictly(target, {**tensors, "head.bias": torch.ones(9)}, source=SOURCE, ignore=("head.*",), names=names)
    assert torch.equal(target[0].weight, tensors["net.0.weight"])
    with pytest.raises(CheckpointError, match=r"missing net\.0\.bias"):
        load_strictly(target, {k: v for k, v in tensors.items() if k != "net.0.bias"}, source=SOURCE, names=names)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(dtype):
    tensors = {key: value.to(dtype) for key, value in state().items()}
    target = module()
    load_strictly(target, tensors, source=SOURCE)
    for key, value in target.state_dict().items():
        assert value.dtype == torch.float32 and torch.equal(value, tensors[key].float())


def test_float32_is_not_copied():
    tensors, target = state(), module()
    load_strictly(target, tensors, source=SOURCE)
    assert target[0].weight.data_ptr() == tensors["0.weight"].data_ptr()


def test_two_modules_load_together_or_not_at_all():
    good, bad = module(), module()
    before = good[0].weight.data_ptr()
    loads = [Load(good, state(), "good"), Load(bad, {**state(), "a": torch.ones(1)}, "bad")]
    with pytest.raises(CheckpointError) as caught:
        load_all_strictly(loads, ["the caller's own problem"])
    assert caught.value.problems[0] == "the caller's own problem"
    assert caught.value.problems[1].startswith("bad does not fit")
    assert good[0].weight.data_ptr() == before


def test_building_draws_no_weights(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "uniform_", None)
    with pytest.raises(TypeError):
        nn.Linear(3, 5)
    build_module(lambda: nn.Linear(3, 5), SOURCE)


def test_an_unfit_configuration_names_its_source():
    with pytest.raises(CheckpointError, match=r"config\.json: expected a configuration its class accepts"):
        build_module(lambda: nn.MultiheadAttention(**{"embed": 5}), "config.json")
