"""GlueNet's text translators against the original classes, and what their reader refuses."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from x2i.models.errors import CheckpointError
from x2i.models.translators.gluenet import (
    GlueNetConditioner,
    Translator,
    TranslatorNoLN,
    read_tensor_norm,
    read_translator,
)

from tests.goldens import golden, golden_tensors
from tests.numerics import assert_close

NORM = "gluegen/multilingual/tensor_norm.safetensors"
TAGS = [
    "noln_77_64_48_2_5",
    "small_noln_10_12_8",
    "small_noln_square_10_12_12",
    "small_translator_10_12_8",
    "small_translator_clip_10_12_8",
]


def described(tag: str) -> dict:
    entries = json.loads(golden("gluegen/translators/translators.json").read_text("utf-8"))
    return next(entry for entry in entries if entry["tag"] == tag)


@pytest.mark.parametrize("tag", TAGS)
@torch.no_grad()
def test_output_and_every_submodule(tag):
    translator = read_translator(golden(f"gluegen/translators/{tag}.safetensors"))
    expected = golden_tensors(f"gluegen/translators/{tag}.io.safetensors")
    seen = {}
    for name, module in translator.named_modules():
        if f"trace.{name}" in expected:
            module.register_forward_hook(lambda _module, _x, output, name=name: seen.update({name: output.numpy()}))
    output = translator(torch.from_numpy(expected["input"]))
    assert_close(output.numpy(), expected["output"], "translator")
    traced = {key.removeprefix("trace.") for key in expected if key.startswith("trace.")}
    assert seen.keys() == traced
    for name in traced:
        assert_close(seen[name], expected[f"trace.{name}"], "translator")


@pytest.mark.parametrize("tag", TAGS)
def test_class_and_sizes_come_from_the_tensors(tag):
    entry = described(tag)
    translator = read_translator(golden(f"gluegen/translators/{tag}.safetensors"))
    assert type(translator) is (TranslatorNoLN if entry["cls"] == "Translator_noln" else Translator)
    tokens, width, width_out, _, depth = entry["args"]
    sizes = (translator.tokens, translator.width, translator.width_out, translator.depth)
    assert sizes == (tokens, width, width_out, depth)
    assert len(translator.state_dict()) == entry["n_tensors"]
    assert not translator.training


def test_pickle_and_safetensors_hold_the_same_translator():
    pickled = read_translator(golden("gluegen/translators/noln_77_64_48_2_5.ckpt")).state_dict()
    plain = read_translator(golden("gluegen/translators/noln_77_64_48_2_5.safetensors")).state_dict()
    assert all(torch.equal(pickled[key], plain[key]) for key in plain)


@pytest.mark.parametrize("case", range(7))
@torch.no_grad()
def test_context(case):
    cases = json.loads(golden("gluegen/multilingual/multilingual.json").read_text("utf-8"))
    expected = golden_tensors("gluegen/multilingual/multilingual.safetensors")
    path = golden("gluegen/" + cases["adapter_files"][cases["cases"][case]["language"]])
    translator = read_translator(path)
    inside = translator(torch.from_numpy(expected[f"{case}.translator_in"]))
    assert_close(inside.numpy(), expected[f"{case}.translator_out"], "translator")
    conditioner = GlueNetConditioner(translator, read_tensor_norm(golden(NORM), 77))
    context = conditioner(torch.from_numpy(expected[f"{case}.last_hidden_state"]))
    assert_close(context.numpy(), expected[f"{case}.context"], "context")


@torch.no_grad()
def test_without_norms_the_translators_output_is_the_context():
    translator = read_translator(golden("gluegen/translators/small_noln_10_12_8.safetensors"))
    features = torch.randn(2, 10, 12, generator=torch.Generator().manual_seed(0))
    assert torch.equal(GlueNetConditioner(translator, None)(features), translator(features / 3))


@torch.no_grad()
def test_every_token_and_feature_reaches_the_output():
    torch.manual_seed(0)
    translator = TranslatorNoLN(7, 6, 5, depth=2)
    x = torch.randn(1, 7, 6)
    for token in range(7):
        for feature in range(6):
            changed = x.clone()
            changed[0, token, feature] += 1
            assert (translator(changed) - translator(x)).abs().amax(dim=(0, 2)).gt(1e-7).all()


def test_all_misfits_are_listed_at_once(tmp_path):
    tensors = load_file(golden("gluegen/translators/small_noln_10_12_8.safetensors"))
    tensors["blocks.3.net_tok.6.weight"] = torch.ones(10, 21)
    tensors["blocks.0.net_sen.0.weight"] = torch.ones(24, 13)
    tensors["tail.net_sen.9.bias"] = torch.ones(3)
    del tensors["blocks.1.net_sen.4.bias"], tensors["tail.net_tok.0.weight"]
    save_file(tensors, tmp_path / "broken.safetensors")
    with pytest.raises(CheckpointError) as caught:
        read_translator(tmp_path / "broken.safetensors")
    text = str(caught.value)
    assert "2 missing, 1 unexpected, 2 wrongly shaped" in text
    for line in (
        "missing blocks.1.net_sen.4.bias [24]",
        "missing tail.net_tok.0.weight [20, 10]",
        "unexpected tail.net_sen.9.bias [3]",
        "wrong blocks.3.net_tok.6.weight: expected [10, 20], got [10, 21]",
        "wrong blocks.0.net_sen.0.weight: expected [24, 12], got [24, 13]",
    ):
        assert line in text


def test_a_lost_block_is_missing_keys_not_a_shallower_translator(tmp_path):
    tensors = load_file(golden("gluegen/translators/small_noln_10_12_8.safetensors"))
    save_file({k: v for k, v in tensors.items() if not k.startswith("blocks.1.")}, tmp_path / "hole.safetensors")
    with pytest.raises(CheckpointError, match=r"24 missing, 24 unexpected"):
        read_translator(tmp_path / "hole.safetensors")


@pytest.mark.parametrize(
    ("name", "looks"),
    [
        ("translators/small_whead_4_10_12_8_4_5.safetensors", "GlueNet's sound translator"),
        ("pipeline/sd-tiny.ckpt", "a Stable Diffusion checkpoint"),
        ("multilingual/xlmr/model.safetensors", "an XLM-R checkpoint"),
        ("multilingual/tensor_norm.safetensors", "keys such as "),
    ],
)
def test_other_checkpoints_are_recognised(name, looks):
    with pytest.raises(CheckpointError, match=rf"got {re.escape(looks)}.*fix: give a gluenet_"):
        read_translator(golden("gluegen/" + name))


def test_tensor_norm_of_another_length_or_with_odd_values(tmp_path):
    with pytest.raises(CheckpointError, match=r"expected a tensor norm of shape \[76, 1\], got \[77, 1\]"):
        read_tensor_norm(golden(NORM), 76)
    for bad in (float("nan"), float("inf"), 0.0, -1.0):
        torch.save(torch.tensor([1.0, bad]), tmp_path / "norm.pt")
        with pytest.raises(CheckpointError, match="positive finite"):
            read_tensor_norm(tmp_path / "norm.pt", 2)
    torch.save(torch.tensor([1.0, 2.0], dtype=torch.float64), tmp_path / "norm.pt")
    norm = read_tensor_norm(tmp_path / "norm.pt", 2)
    assert norm.dtype == torch.float32 and norm.shape == (2, 1)
