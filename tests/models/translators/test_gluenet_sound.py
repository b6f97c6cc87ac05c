"""GlueNet's sound translator against the original class of the inference, and against its twin that it is not."""

import json

import pytest
import torch
from x2i.models.readers.loading import load_strictly
from x2i.models.readers.tensors import read_tensors
from x2i.models.translators.gluenet import read_tensor_norm
from x2i.models.translators.gluenet_sound import SoundConditioner, TranslatorWithHead

from tests.goldens import golden, golden_tensors
from tests.numerics import assert_close

TAGS = ["whead_16_77_64_48_4_5", "small_whead_4_10_12_8_4_5"]
SOUND = "gluegen/sound/sound.safetensors"


def translator(tag, suffix=".safetensors"):
    entries = json.loads(golden("gluegen/translators/translators.json").read_text("utf-8"))
    entry = next(entry for entry in entries if entry["tag"] == tag)
    module = TranslatorWithHead(*entry["args"])
    assert len(module.state_dict()) == entry["n_tensors"]
    load_strictly(module, read_tensors(golden(f"gluegen/translators/{tag}{suffix}")), source=tag)
    return module.eval().requires_grad_(False)


@pytest.mark.parametrize("tag", TAGS)
@torch.no_grad()
def test_output_and_every_submodule(tag):
    module = translator(tag)
    expected = golden_tensors(f"gluegen/translators/{tag}.io.safetensors")
    seen = {}
    for name, part in module.named_modules():
        if f"trace.{name}" in expected:
            part.register_forward_hook(lambda _module, _x, output, name=name: seen.update({name: output.numpy()}))
    output = module(torch.from_numpy(expected["input"]))
    assert_close(output.numpy(), expected["output"], "translator")
    assert seen.keys() == {key.removeprefix("trace.") for key in expected if key.startswith("trace.")}
    for name, value in seen.items():
        assert_close(value, expected[f"trace.{name}"], "translator")


@pytest.mark.parametrize("tag", TAGS)
@torch.no_grad()
def test_it_is_not_the_twin_that_mixes_tokens_first(tag):
    expected = golden_tensors(f"gluegen/translators/{tag}.io.safetensors")
    wrong = expected["wrong_if_token_first_Translator_w_head"]
    output = translator(tag)(torch.from_numpy(expected["input"])).numpy()
    assert abs(output - wrong).max() > 5 * expected["output"].std()


@torch.no_grad()
def test_pickle_and_safetensors_hold_the_same_translator():
    pickled, plain = (translator(TAGS[0], suffix).state_dict() for suffix in (".ckpt", ".safetensors"))
    assert all(torch.equal(pickled[key], plain[key]) for key in plain)


@pytest.mark.parametrize("case", range(6))
@torch.no_grad()
def test_context(case):
    expected = golden_tensors(SOUND)
    norm = read_tensor_norm(golden("gluegen/multilingual/tensor_norm.safetensors"), 77)
    conditioner = SoundConditioner(translator(TAGS[0]), norm)
    features = torch.from_numpy(expected[f"{case}.audio_features"])
    inside = conditioner.translator(features.reshape(1, 16, 64))
    assert_close(inside.numpy(), expected[f"{case}.translator_out"], "context")
    assert_close(conditioner(features).numpy(), expected[f"{case}.context"], "context")


def test_mult_widens_the_hidden_layers_of_every_block():
    module = TranslatorWithHead(4, 6, 8, 10, mult=3)
    for name, value in module.state_dict().items():
        if name.endswith("net_sen.0.weight"):
            assert value.shape[0] == 3 * value.shape[1], name
        if name.endswith("net_tok.0.weight"):
            assert value.shape[0] == 3 * value.shape[1], name
    assert len(TranslatorWithHead(4, 6, 8, 10, depth=6).out_blocks) == 3


@torch.no_grad()
def test_every_token_and_feature_reaches_the_output():
    torch.manual_seed(0)
    module = TranslatorWithHead(4, 7, 6, 5)
    x = torch.randn(1, 4, 6)
    for token in range(4):
        for feature in range(6):
            changed = x.clone()
            changed[0, token, feature] += 1
            assert (module(changed) - module(x)).abs().amax(dim=(0, 2)).gt(1e-7).all()
