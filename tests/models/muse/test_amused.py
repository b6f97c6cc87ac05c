"""aMUSEd's folder, strictly read, and its networks, against diffusers' own and the recorded ones."""

import json
import re
import shutil
from dataclasses import fields

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from x2i.models.errors import CheckpointError
from x2i.models.muse.amused import read_amused
from x2i.models.muse.uvit2d import UVitContext, UVitLogits, modulations, reading_layers
from x2i.models.muse.vq_model import VqPicture, VqTokens
from x2i.models.random.amused import random_amused

from tests.goldens import FULL, golden, golden_arrays
from tests.numerics import assert_close

PIPES = sorted(path.name for path in (FULL / "muse_amused").glob("pipe_*")) or ["none"]
every_pipe = pytest.mark.parametrize("pipe", PIPES)


def networks(pipe):
    prefix = f"{pipe.removeprefix('pipe_')}_"
    arrays = golden_arrays("muse_amused/networks.npz")
    return {key.removeprefix(prefix): torch.tensor(value) for key, value in arrays.items() if key.startswith(prefix)}


def uvit_calls(own):
    """The recorded calls of the transformer."""
    for grid in sorted({found[1] for key in own if (found := re.fullmatch(r"uvit_(\w+)_ids", key))}):
        yield tuple(own[f"uvit_{grid}_{name}"] for name in ("ids", "hidden", "pooled", "micro", "logits"))


def logits_of(transformer, ids, hidden, pooled, micro):
    return UVitLogits(transformer)(ids, *UVitContext(transformer)(hidden, pooled, micro)).permute(0, 3, 1, 2)


@every_pipe
@torch.no_grad()
def test_the_recorded_networks(pipe):
    own, amused = networks(pipe), read_amused(golden(f"muse_amused/{pipe}"))
    hidden, pooled = amused.text(own["text_ids"])
    assert_close(hidden, own["text_hidden_penultimate"], "muse-text")
    assert_close(pooled, own["text_embeds"], "muse-text")
    for *given, logits in uvit_calls(own):
        assert_close(logits_of(amused.transformer, *given), logits, "muse-logits")
    assert_close((VqPicture(amused.vq)(own["vq_ids"]) + 1) / 2, own["vq_decoded"], "muse-decoded")
    assert_close(VqTokens(amused.vq)(own["vq_image"]).reshape(-1), own["vq_indices"], "exact")


@torch.no_grad()
@pytest.mark.parametrize("changes", [{}, {"downsample": True, "upsample": True}, {"use_bias": True, "hidden_size": 24}])
def test_both_halves_are_diffusers_whole(changes):
    """Also where the text is as wide as the blocks, and no map leads to them; and with biases."""
    from diffusers.models.unets.uvit_2d import UVit2DModel
    from x2i.models.random.weights import draw_weights

    settings = {**random_amused("tiny").transformer.config, **changes}
    known = {key: value for key, value in settings.items() if not key.startswith("_")}
    model = draw_weights(UVit2DModel(**known).eval(), 3)
    random = torch.Generator().manual_seed(5)
    ids = torch.randint(0, model.config.vocab_size, (2, 4, 6), generator=random)
    hidden = torch.randn(2, 7, model.config.encoder_hidden_size, generator=random)
    pooled = torch.randn(2, model.config.cond_embed_dim, generator=random)
    micro = torch.tensor([[48.0, 32, 8, 20, 6], [32, 48, 0, 0, 5]])
    assert_close(logits_of(model, ids, hidden, pooled, micro), model(ids, hidden, pooled, micro), "muse-logits")
    assert len(list(reading_layers(model))) == 2 * 2 * model.config.num_res_blocks + model.config.num_hidden_layers
    assert len(modulations(model)) == 2 * model.config.num_res_blocks + 3 * model.config.num_hidden_layers


def tanh_gelu(model):
    for block in (*model.down_block.res_blocks, *model.up_block.res_blocks):
        block.channelwise_act = torch.nn.GELU(approximate="tanh")


def layer_norm(model):
    weight = model.encoder_proj_layer_norm.weight
    model.encoder_proj_layer_norm = torch.nn.LayerNorm(len(weight), bias=False)
    model.encoder_proj_layer_norm.weight = weight


MISTAKES = {"the approximate GELU": tanh_gelu, "LayerNorm for RMSNorm": layer_norm}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
@torch.no_grad()
def test_a_mistake_in_the_network_is_noticed(mistake):
    amused = read_amused(golden(f"muse_amused/{PIPES[0]}"))
    mistake(amused.transformer)
    *given, logits = next(uvit_calls(networks(PIPES[0])))
    with pytest.raises(AssertionError, match="muse-logits"):
        assert_close(logits_of(amused.transformer, *given), logits, "muse-logits")


@every_pipe
@torch.no_grad()
def test_a_state_behind_the_last_layer_and_waves_of_sines_first_are_noticed(pipe):
    own, amused = networks(pipe), read_amused(golden(f"muse_amused/{pipe}"))
    with pytest.raises(AssertionError, match="muse-text"):
        assert_close(amused.text(own["text_ids"])[0], own["text_last_hidden"], "muse-text")
    linear, width = amused.transformer.cond_embed.linear_1, amused.transformer.config.micro_cond_encode_dim
    waves = linear.weight.data[:, amused.transformer.config.cond_embed_dim :]
    waves.copy_(waves.unflatten(1, (-1, 2, width // 2)).flip(2).flatten(1))
    *given, logits = next(uvit_calls(own))
    with pytest.raises(AssertionError, match="muse-logits"):
        assert_close(logits_of(amused.transformer, *given), logits, "muse-logits")


@torch.no_grad()
@pytest.mark.parametrize("end", [2, 513])
def test_the_end_token_is_found_by_either_rule(end):
    text = random_amused("tiny").text
    text.config.eos_token_id = end
    ids = torch.tensor([[512, 5, 9, 513, 513, 513], [512, 7, 513, 3, 513, 513]])
    _, pooled = text(ids)
    cut = [text(row[None, : place + 1])[1][0] for row, place in zip(ids, (3, 2), strict=True)]
    assert_close(pooled, torch.stack(cut), "muse-text")


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(golden(f"muse_amused/{PIPES[0]}"), tmp_path / "amused")
    return tmp_path / "amused"


def reset(path, **settings):
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def problems(folder):
    with pytest.raises(CheckpointError) as caught:
        read_amused(folder)
    return caught.value.problems


@pytest.mark.parametrize(
    ("part", "settings", "problem"),
    [
        (
            "transformer/config.json",
            {"norm_type": "layer"},
            "expected settings of aMUSEd's classes, got unknown 'n",
        ),
        ("transformer/config.json", {"hidden_size": 0}, "expected hidden_size as a positive whole number, got 0"),
        (
            "transformer/config.json",
            {"num_attention_heads": 5},
            "expected hidden_size as a multiple of num_attent",
        ),
        (
            "transformer/config.json",
            {"micro_cond_encode_dim": 8},
            "expected micro_cond_embed_dim 5 times micro_con",
        ),
        ("transformer/config.json", {"upsample": None}, "expected upsample "),
        ("transformer/config.json", {"_class_name": "UNet2DModel"}, "expected UVit2DModel, got UNet2DModel"),
        ("vqvae/config.json", {"norm_type": "spatial"}, "expected norm_type 'group', got 'spatial'"),
        ("vqvae/config.json", {"lookup_from_codebook": False}, "expected lookup_from_codebook True, got False"),
        ("vqvae/config.json", {"in_channels": 4}, "expected in_channels 3, got 4"),
        ("vqvae/config.json", {"up_block_types": ["UpBlock2D"]}, "expected up_block_types of UpDecoderBlock2D or "),
        ("scheduler/scheduler_config.json", {"masking_schedule": "sine"}, "expected masking_schedule 'cosine' or 'lin"),
        ("scheduler/scheduler_config.json", {"steps": 3}, "expected settings of aMUSEd's classes, got unknown 's"),
        (
            "scheduler/scheduler_config.json",
            {"mask_token_id": 3},
            "expected the scheduler's mask_token_id from",
        ),
        ("text_encoder/config.json", {"model_type": "bert"}, "expected model_type 'clip_text_model', got 'bert'"),
        ("text_encoder/config.json", {"eos_token_id": [1, 2]}, "expected eos_token_id as one id"),
        ("model_index.json", {"_class_name": "StableDiffusionPipeline"}, "expected AmusedPipeline, got 'StableDiffusi"),
        (
            "model_index.json",
            {"text_encoder": ["transformers", "CLIPTextModel"]},
            "expected text_encoder of class",
        ),
    ],
)
def test_a_setting_that_is_not_drawn_is_refused_by_name(folder, part, settings, problem):
    reset(folder / part, **settings)
    assert any(f"{line}".split(": ", 1)[1].startswith(problem) for line in problems(folder)), problems(folder)


def test_problems_of_all_parts_come_at_once(folder):
    reset(folder / "transformer" / "config.json", hidden_size=-1, steps=2)
    reset(folder / "vqvae" / "config.json", norm_type="spatial")
    reset(folder / "model_index.json", scheduler=["diffusers", "DDIMScheduler"])
    assert len(problems(folder)) >= 4


def test_parts_of_two_checkpoints_are_refused(folder):
    reset(folder / "transformer" / "config.json", codebook_size=60, encoder_hidden_size=40, cond_embed_dim=30)
    found = problems(folder)
    assert len(found) == 3 and all("to be equal" in line for line in found)


def test_absent_files_are_all_named(folder):
    (folder / "model_index.json").unlink()
    (folder / "scheduler" / "scheduler_config.json").unlink()
    next((folder / "vqvae").glob("*.safetensors")).unlink()
    found = "\n".join(problems(folder))
    assert all(name in found for name in ("model_index.json", "scheduler_config.json", "weights in vqvae/"))


@pytest.mark.parametrize("part", ["transformer", "vqvae", "text_encoder"])
def test_every_key_that_does_not_fit_is_named(folder, part):
    (file,) = (folder / part).glob("*.safetensors")
    tensors = load_file(file)
    lost, cut, *_ = [key for key in tensors if "position_ids" not in key and tensors[key].ndim > 1]
    changed = {key: value for key, value in tensors.items() if key != lost}
    changed[cut], changed["stranger.weight"] = changed[cut][:-1].clone(), torch.zeros(2)
    save_file(changed, file)
    found = "\n".join(problems(folder))
    assert f"missing {lost}" in found and f"wrong {cut}" in found and "unexpected stranger.weight" in found


def test_half_precision_and_absent_settings_are_read(folder):
    part = folder / "transformer"
    (file,) = part.glob("*.safetensors")
    halves = {key: value.half() for key, value in load_file(file).items()}
    file.unlink()
    save_file(halves, part / "diffusion_pytorch_model.fp16.safetensors")
    settings = json.loads((part / "config.json").read_text())
    # Those that diffusers' class has a default for, which is the folder's.
    (part / "config.json").write_text(
        json.dumps({k: v for k, v in settings.items() if k not in ("downsample", "use_bias")})
    )
    amused = read_amused(folder)
    assert amused.transformer.encoder_proj.weight.dtype == torch.float32
    assert np.array_equal(amused.transformer.encoder_proj.weight.numpy(), halves["encoder_proj.weight"].float().numpy())


def test_random_weights_have_their_sizes():
    tiny = random_amused("tiny")
    assert all(getattr(tiny, field.name) is not None for field in fields(tiny))
    with pytest.raises(CheckpointError, match="random weights: expected amused-256 or tiny, got 'huge'"):
        random_amused("huge")
