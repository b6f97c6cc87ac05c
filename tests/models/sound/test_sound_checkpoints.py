"""The files of GlueGen's sound path: what their readers find in them, and what they refuse."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from x2i.models.errors import CheckpointError
from x2i.models.random.weights import random_gluegen_sound
from x2i.models.sound.audioclip import AudioClip, AudioClipSettings
from x2i.models.sound.audioclip_checkpoint import read_audioclip, settings_file
from x2i.models.translators.gluenet import read_translator
from x2i.models.translators.gluenet_sound import TranslatorWithHead, read_sound_translator, read_unconditional

from tests.goldens import golden, golden_tensors
from tests.models.sound.sound_goldens import SMALL, audioclip, tensors
from tests.numerics import assert_close

TRANSLATORS = "gluegen/translators/"


def saved(folder: Path, settings: AudioClipSettings = SMALL, name: str = "AudioCLIP.pt", **changes) -> Path:
    """A small AudioCLIP with random weights, other towers, and its settings beside it."""
    state = AudioClip(settings).state_dict()
    random = torch.Generator().manual_seed(1)
    drawn = {
        f"audio.{key}": torch.rand(value.shape, generator=random) if value.is_floating_point() else value
        for key, value in state.items()
    }
    towers = {"visual.conv1.weight": torch.ones(2, 2), "logit_scale": torch.ones(())}
    named = drawn | {"audio.fbsp.bias": torch.ones(0)} | towers | changes
    path = folder / name
    save = save_file if path.suffix == ".safetensors" else torch.save
    save({key: value for key, value in named.items() if value is not None}, path)
    settings_file(path).write_text(settings.to_json(), encoding="utf-8")
    return path


def problems(read, *arguments) -> list[str]:
    with pytest.raises(CheckpointError) as raised:
        read(*arguments)
    return list(raised.value.problems)


def test_the_released_sizes_come_from_the_tensors(tmp_path):
    path = tmp_path / "AudioCLIP-Full-Training.pt"
    torch.save(tensors() | {"transformer.resblocks.0.ln_1.weight": torch.ones(3)}, path)
    module = read_audioclip(path)
    assert module.settings == AudioClipSettings() and not module.training
    expected = audioclip().state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in module.state_dict().items())
    assert torch.equal(module.filters, audioclip().filters)


@pytest.mark.parametrize("name", ["AudioCLIP.pt", "AudioCLIP-1.2.safetensors"])
def test_a_small_relative_with_its_settings_beside_it(tmp_path, name):
    path = saved(tmp_path, name=name)
    assert settings_file(path).name == {"AudioCLIP.pt": "AudioCLIP.json"}.get(name, "AudioCLIP-1.2.json")
    assert read_audioclip(path).settings == SMALL


def test_settings_of_a_zipped_file():
    assert settings_file(Path("a/AudioCLIP.safetensors.gz")) == Path("a/AudioCLIP.json")


@torch.no_grad()
def test_sizes_of_another_network_with_the_released_filters(tmp_path):
    settings = replace(AudioClipSettings(), width=8, layers=(1, 2, 1, 1), groups=4, group_width=2, features=24, bands=2)
    path = saved(tmp_path, settings)
    settings_file(path).unlink()
    assert read_audioclip(path).settings == settings


def test_half_precision_is_read_as_float32(tmp_path):
    path = saved(tmp_path)
    whole = torch.load(path, weights_only=True)
    torch.save({key: value.half() if value.is_floating_point() else value for key, value in whole.items()}, path)
    module = read_audioclip(path)
    assert all(value.dtype == torch.float32 for value in module.parameters()) and module.filters.dtype == torch.float32
    assert_close(module.fc.weight.numpy(), whole["audio.fc.weight"].half().float().numpy(), "exact")


def test_filters_alone_do_not_tell_the_hop(tmp_path):
    path = saved(tmp_path)
    settings_file(path).unlink()
    (line,) = problems(read_audioclip, path)
    assert "AudioCLIP.json beside it, which tells rate, frames and hop, got 128 and 101 without" in line


def test_all_misfits_are_listed_at_once(tmp_path):
    wrong = {"audio.fc.bias": torch.ones(7), "audio.layer2.0.bn1.weight": None, "audio.colour": torch.ones(2)}
    headline, *lines = problems(read_audioclip, saved(tmp_path, **wrong))
    assert "1 missing, 1 unexpected, 1 wrongly shaped" in headline
    assert lines == [
        "  missing audio.layer2.0.bn1.weight [16]",
        "  unexpected audio.colour [2]",
        "  wrong audio.fc.bias: expected [24], got [7]",
    ]


def test_settings_that_are_not_the_files(tmp_path):
    path = saved(tmp_path)
    settings_file(path).write_text(replace(SMALL, features=32, window=90).to_json(), encoding="utf-8")
    assert [line for line in problems(read_audioclip, path) if "wrong" in line][1:] == [
        "  wrong audio.window: expected [90], got [101]",
        "  wrong audio.fc.weight: expected [32, 256], got [24, 256]",
        "  wrong audio.fc.bias: expected [32], got [24]",
    ]


@pytest.mark.parametrize(
    ("name", "got"),
    [
        (TRANSLATORS + "whead_16_77_64_48_4_5.ckpt", "GlueNet's sound translator"),
        (TRANSLATORS + "noln_77_64_48_2_5.ckpt", "GlueNet's text translator"),
        ("gluegen/pipeline/sd-tiny.ckpt", "a Stable Diffusion checkpoint"),
        ("gluegen/sound/null_cond_tensor.safetensors", "keys such as"),
    ],
)
def test_other_files_are_named(name, got):
    (line,) = problems(read_audioclip, golden(name))
    assert f"expected AudioCLIP with its audio branch (keys audio.conv1..., audio.fbsp...), got {got}" in line


def test_audioclip_without_its_audio_branch(tmp_path):
    torch.save({"visual.conv1.weight": torch.ones(2, 2)}, tmp_path / "CLIP.pt")
    assert "got keys such as visual.conv1.weight" in problems(read_audioclip, tmp_path / "CLIP.pt")[0]


@pytest.mark.parametrize("name", ["whead_16_77_64_48_4_5.ckpt", "small_whead_4_10_12_8_4_5.safetensors"])
@torch.no_grad()
def test_translator_sizes_come_from_the_tensors(name):
    entries = json.loads(golden(TRANSLATORS + "translators.json").read_text("utf-8"))
    tag = name.partition(".")[0]
    (arguments,) = (entry["args"] for entry in entries if entry["tag"] == tag)
    translator = read_sound_translator(golden(TRANSLATORS + name))
    assert [
        getattr(translator, size) for size in ("tokens", "tokens_out", "width", "width_out", "mult", "depth")
    ] == arguments
    expected = golden_tensors(f"{TRANSLATORS}{tag}.io.safetensors")
    output = translator(torch.from_numpy(expected["input"])).numpy()
    assert_close(output, expected["output"], "translator")
    wrong = expected["wrong_if_token_first_Translator_w_head"]
    assert np.abs(output - wrong).max() > expected["output"].std()


@pytest.mark.parametrize(("mult", "depth"), [(1, 4), (3, 7)])
def test_other_depths_and_hidden_widths(tmp_path, mult, depth):
    expected = TranslatorWithHead(4, 6, 8, 10, mult=mult, depth=depth)
    torch.save(expected.state_dict(), tmp_path / "a.ckpt")
    translator = read_sound_translator(tmp_path / "a.ckpt")
    assert (translator.mult, translator.depth, translator.training) == (mult, depth, False)


def test_text_and_sound_translators_are_told_apart():
    text, sound = golden(TRANSLATORS + "noln_77_64_48_2_5.ckpt"), golden(TRANSLATORS + "whead_16_77_64_48_4_5.ckpt")
    assert "got GlueNet's text translator" in problems(read_sound_translator, text)[0]
    assert "got GlueNet's sound translator" in problems(read_translator, sound)[0]
    assert (
        "got a Stable Diffusion checkpoint"
        in problems(read_sound_translator, golden("gluegen/pipeline/sd-tiny.ckpt"))[0]
    )


def test_all_misfits_of_a_translator_are_listed_at_once(tmp_path):
    state = load_file(golden(TRANSLATORS + "small_whead_4_10_12_8_4_5.safetensors"))
    state["tail_1.net_tok.0.bias"] = torch.ones(3)
    state["tail_3.net_tok.0.bias"] = torch.ones(3)
    del state["trans.net_sen.1.weight"]
    save_file(state, tmp_path / "a.safetensors")
    headline, *lines = problems(read_sound_translator, tmp_path / "a.safetensors")
    assert "1 missing, 1 unexpected, 1 wrongly shaped" in headline and len(lines) == 3


def test_the_unconditional_context_in_both_formats():
    pickled, plain = (
        read_unconditional(golden(f"gluegen/sound/null_cond_tensor.{s}"), 77, 768) for s in ("pt", "safetensors")
    )
    assert pickled.shape == (1, 77, 768) and pickled.dtype == torch.float32 and torch.equal(pickled, plain)
    assert pickled[0, 0].norm().item() == pytest.approx(43.8203, abs=1e-3)


def test_unconditional_contexts_refused(tmp_path):
    path = golden("gluegen/sound/null_cond_tensor.pt")
    assert "shape [1, 77, 48], got [1, 77, 768]" in problems(read_unconditional, path, 77, 48)[0]
    torch.save(torch.full((1, 3, 2), torch.nan), tmp_path / "a.pt")
    assert "expected finite numbers" in problems(read_unconditional, tmp_path / "a.pt", 3, 2)[0]
    torch.save(torch.ones(3, 2).half(), tmp_path / "a.pt")
    assert read_unconditional(tmp_path / "a.pt", 3, 2).dtype == torch.float32


@torch.no_grad()
def test_random_weights_tell_sounds_apart():
    encoder, conditioner, unconditional = random_gluegen_sound("tiny")
    sounds = torch.randn(2, 2, encoder.settings.frames).cumsum(-1)[:, :, :] * torch.tensor([900.0, 30.0])[:, None, None]
    features = encoder(sounds)
    contexts = conditioner(features)
    assert contexts.shape == (2, *unconditional.shape[1:])
    assert 0.2 < contexts.std() / unconditional.std() < 5
    assert (contexts[0] - contexts[1]).std() > 0.01 * contexts.std()
    again = random_gluegen_sound("tiny")[0].state_dict()
    assert all(torch.equal(value, again[key]) for key, value in encoder.state_dict().items())
