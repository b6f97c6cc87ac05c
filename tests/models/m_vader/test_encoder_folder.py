"""M-VADER's encoder from folders: names of a released MAGMA, settings, parts that do not fit, all told at once."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from x2i.models.errors import CheckpointError
from x2i.models.m_vader.encoder import PARTS, read_sequence_encoder
from x2i.models.m_vader.language_model_folder import language_model_settings
from x2i.models.random.byte_tokenizer import byte_clip_json
from x2i.models.random.cascades.m_vader import random_sequence_encoder

from tests.numerics import assert_close

CONFIG = {
    "model_type": "gptj",
    "vocab_size": 520,
    "n_positions": 60,
    "n_embd": 48,
    "n_layer": 2,
    "n_head": 3,
    "rotary_dim": 10,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "bos_token_id": 519,
    "eos_token_id": 519,
    "transformers_version": "5.24.0",
    "adapter": {"location": "mlp", "type": "normal", "downsample_factor": 4},
}


@pytest.fixture(scope="module")
def encoder():
    return random_sequence_encoder("tiny", 48)


@pytest.fixture
def folder(encoder, tmp_path):
    """The tiny encoder as a folder."""
    vision = encoder.image_prefix.vision
    model, image, words = (tmp_path / name for name in ("language_model", "image_encoder", "tokenizer"))
    for each in (model, image, words):
        each.mkdir()
    save_file(encoder.language_model.state_dict(), model / "model.safetensors")
    (model / "config.json").write_text(json.dumps(CONFIG))
    vision.config.to_json_file(image / "config.json", use_diff=False)
    save_file(vision.state_dict(), image / "model.safetensors")
    layers = {f"image_prefix.{key}": value for key, value in encoder.image_prefix.projection.state_dict().items()}
    save_file(layers, tmp_path / "image_prefix.safetensors")
    (words / "tokenizer.json").write_text(byte_clip_json(520))
    (words / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    return tmp_path


def same(one, other):
    embeds = torch.randn(1, 7, 48, generator=torch.Generator().manual_seed(2))
    pixels = torch.randn(1, 3, one.image_prefix.size, one.image_prefix.size, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        assert_close(other.language_model(embeds), one.language_model(embeds), "exact")
        assert_close(other.image_prefix(pixels), one.image_prefix(pixels), "exact")


def test_a_folder_gives_what_was_written(encoder, folder):
    read = read_sequence_encoder(folder, {})
    same(encoder, read)
    assert read.language_model.settings == encoder.language_model.settings
    assert read.tokenizer_json == encoder.tokenizer_json


@pytest.mark.parametrize("prefix", ["lm.transformer.", "transformer.", "module.lm.transformer."])
def test_names_of_a_released_magma_are_read(encoder, folder, prefix):
    """With its other half, a head, and the masks that older versions saved; without the setting of the adapters."""
    tensors = {prefix + key: value for key, value in encoder.language_model.state_dict().items()}
    outer = prefix.removesuffix("lm.transformer.").removesuffix("transformer.")
    tensors |= {f"{outer}lm.lm_head.weight": torch.zeros(520, 48), f"{prefix}h.0.attn.bias": torch.ones(1, 1, 60, 60)}
    tensors |= {
        f"{prefix}h.0.attn.masked_bias": torch.tensor(-1e9),
        f"{outer}image_prefix.enc.conv1.weight": torch.ones(3),
    }
    (folder / "language_model" / "model.safetensors").unlink()
    save_file(tensors, folder / "language_model" / "model.safetensors")
    (folder / "language_model" / "config.json").write_text(
        json.dumps({name: value for name, value in CONFIG.items() if name != "adapter"})
    )
    same(encoder, read_sequence_encoder(folder, {}))


def test_a_checkpoint_with_the_model_in_a_section_is_read(encoder, folder):
    state = {f"lm.transformer.{key}": value for key, value in encoder.language_model.state_dict().items()}
    layers = {f"image_prefix.{key}": value for key, value in encoder.image_prefix.projection.state_dict().items()}
    (folder / "language_model" / "model.safetensors").unlink()
    torch.save({"module": state | layers}, folder / "language_model" / "magma.bin")
    (folder / "image_prefix.safetensors").unlink()
    torch.save({"module": state | layers}, folder / "magma.pt")
    same(encoder, read_sequence_encoder(folder, {"image-prefix": folder / "magma.pt"}))


def test_parts_may_lie_elsewhere(encoder, folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    parts = {}
    for number, (name, file) in enumerate(PARTS.items()):
        parts[name] = elsewhere / f"{number}{(folder / file).suffix}"
        (folder / file).rename(parts[name])
    same(encoder, read_sequence_encoder(folder, parts))
    with pytest.raises(CheckpointError) as told:
        read_sequence_encoder(folder, {})
    assert [line.split("--part ")[1].split("=")[0] for line in told.value.problems] == list(PARTS)


def test_every_key_that_does_not_fit_is_told(folder):
    file = folder / "language_model" / "model.safetensors"
    tensors = load_file(file)
    tensors["h.1.mlp.1.adapter.3.weight"] = tensors.pop("h.1.mlp.1.adapter.2.weight")
    file.unlink()
    save_file(tensors, file)
    layers = folder / "image_prefix.safetensors"
    tensors = load_file(layers)
    tensors["image_prefix.proj.weight"] = tensors["image_prefix.proj.weight"][:, 1:].contiguous()
    layers.unlink()
    save_file(tensors, layers)
    with pytest.raises(CheckpointError) as told:
        read_sequence_encoder(folder, {})
    lines = "\n".join(told.value.problems)
    for said in (
        "missing h.1.mlp.1.adapter.2.weight",
        "unexpected h.1.mlp.1.adapter.3.weight",
        "wrong image_prefix.proj",
    ):
        assert said in lines


def test_a_tokenizer_of_more_tokens_and_one_of_another_class_are_refused(folder):
    (folder / "tokenizer" / "tokenizer.json").write_text(byte_clip_json(521))
    with pytest.raises(CheckpointError, match=r"vocab_size 520, got ids up to 520"):
        read_sequence_encoder(folder, {})
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer"}))
    with pytest.raises(CheckpointError, match="expected tokenizer_class CLIPTokenizer or GPT2Tokenizer"):
        read_sequence_encoder(folder, {})


WRONG = {
    "model_type": "gpt2",
    "n_embd": 50,
    "n_head": 0,
    "rotary_dim": 7,
    "activation_function": "relu",
    "layer_norm_epsilon": -1,
    "eos_token_id": 520,
    "n_positions": "many",
    "adapter": {"location": "attention", "type": "scaled_parallel", "downsample_factor": 4, "scale": 2},
    "attention_window": 5,
}


@pytest.mark.parametrize("name", WRONG)
def test_a_setting_of_another_model_is_told(name):
    with pytest.raises(CheckpointError) as told:
        language_model_settings(CONFIG | {name: WRONG[name]}, "config.json")
    assert any(name in line or name == "adapter" for line in told.value.problems)


def test_all_settings_are_told_together():
    with pytest.raises(CheckpointError) as told:
        language_model_settings(CONFIG | WRONG, "config.json")
    lines = "\n".join(told.value.problems)
    for said in (
        "gpt2",
        "n_head",
        "relu",
        "layer_norm_epsilon",
        "eos_token_id",
        "many",
        "attention'",
        "scale",
        "window",
    ):
        assert said in lines
