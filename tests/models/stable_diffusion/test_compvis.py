"""A CompVis checkpoint against the original run, its names against diffusers' converter, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from x2i.models.errors import CheckpointError
from x2i.models.random.byte_tokenizer import byte_clip_json
from x2i.models.random.sizes import SIZES
from x2i.models.random.weights import random_stable_diffusion
from x2i.models.readers.loading import build_module
from x2i.models.readers.tensors import read_tensors
from x2i.models.stable_diffusion.base import Replacements, StableDiffusion, read_stable_diffusion
from x2i.models.stable_diffusion.compvis_config import SD_V1, parse_compvis_config
from x2i.models.stable_diffusion.compvis_names import unet_names, vae_names

from tests.goldens import golden, golden_tensors
from tests.numerics import assert_close

CHECKPOINT, CONFIG = "gluegen/pipeline/sd-tiny.ckpt", "gluegen/pipeline/config.json"


@pytest.fixture(scope="module")
def base() -> StableDiffusion:
    return read_stable_diffusion(golden(CHECKPOINT), golden(CONFIG))


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    return dict(read_tensors(golden(CHECKPOINT)))


def reread(tensors: dict[str, torch.Tensor], folder: Path, **changes) -> StableDiffusion:
    torch.save({"state_dict": tensors, "global_step": 470000}, folder / "sd.ckpt")
    return read_stable_diffusion(folder / "sd.ckpt", **{"config": golden(CONFIG), **changes})


@pytest.mark.parametrize("call", ["unet_first", "unet_last"])
@torch.no_grad()
def test_unet(base, call):
    expected = golden_tensors("gluegen/pipeline/text.safetensors")
    x, t, context = (torch.from_numpy(expected[f"{call}.{name}"]) for name in ("x", "t", "context"))
    assert_close(base.unet(x, t, context).sample.numpy(), expected[f"{call}.eps"], "unet")


@torch.no_grad()
def test_vae_decodes_and_encodes(base):
    expected = golden_tensors("gluegen/pipeline/text.safetensors")
    decoded = base.vae.decode(torch.from_numpy(expected["latents"]) / base.scaling_factor).sample
    assert_close(decoded.numpy(), expected["decoded"], "unet")
    expected = golden_tensors("gluegen/pipeline/vae_encode.safetensors")
    encoded = base.vae.encode(torch.from_numpy(expected["image"])).latent_dist
    assert_close(encoded.mean.numpy(), expected["mean"], "unet")
    assert_close(encoded.logvar.numpy(), expected["logvar"], "unet")


@torch.no_grad()
def test_unet_reacts_to_every_input(base):
    torch.manual_seed(0)
    x, t, context = torch.randn(1, 4, 8, 24), torch.tensor([321]), torch.randn(1, 5, 48)
    noise = base.unet(x, t, context).sample
    changed = context.clone()
    changed[0, 4] += 1
    for other in ((x + 1, t, context), (x, t + 9, context), (x, t, changed)):
        assert (base.unet(*other).sample - noise).abs().max() > 1e-4


def test_parts_and_settings(base):
    assert base.layout == "compvis" and base.scaling_factor == 0.18215
    assert base.text_encoder is None and base.tokenizer is None, "the decoys passed for a text encoder"
    assert base.scheduler == {
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": "epsilon",
        "steps_offset": 1,
        "set_alpha_to_one": False,
        "rescale_betas_zero_snr": False,
    }
    for part in (base.unet, base.vae):
        assert not part.training and all(p.dtype == torch.float32 for p in part.parameters())


def test_every_key_of_the_file_is_named(base):
    keys = json.loads(golden("gluegen/pipeline/keys.json").read_text("utf-8"))
    named = {**unet_names(base.unet, 1, [True, False]), **vae_names(base.vae, 4)}
    weights = {key for key in keys if key.startswith(("model.diffusion_model.", "first_stage_model."))}
    assert set(named.values()) == weights


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_res_blocks": 1, "channel_mult": [1, 2, 3], "attention_resolutions": [2], "model_channels": 64},
        {"num_res_blocks": 3, "attention_resolutions": [1, 8], "model_channels": 32, "transformer_depth": 2},
        {"num_heads": -1, "num_head_channels": 64, "use_linear_in_transformer": True},
    ],
)
def test_unet_names_equal_diffusers_converter(changes):
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    config = parse_compvis_config({**SD_V1, "unet": {**SD_V1["unet"], **changes}}, "test").unet
    unet = build_module(lambda: UNet2DConditionModel(**config), "test")
    attends = ["CrossAttn" in each for each in config["down_block_types"]]
    names = unet_names(unet, config["layers_per_block"], attends)
    state = unet.state_dict()
    converted = convert_ldm_unet_checkpoint({names[key]: value for key, value in state.items()}, config)
    assert converted.keys() == state.keys()
    assert all(converted[key].data_ptr() == state[key].data_ptr() for key in state)


@pytest.mark.parametrize("changes", [{}, {"ch": 32, "ch_mult": [1, 3], "num_res_blocks": 1}])
def test_vae_names_equal_diffusers_converter(changes):
    from diffusers import AutoencoderKL
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    vae_settings = {**SD_V1["vae"], "ddconfig": {**SD_V1["vae"]["ddconfig"], **changes}}
    config = parse_compvis_config({**SD_V1, "vae": vae_settings}, "test").vae
    vae = build_module(lambda: AutoencoderKL(**config), "test")
    names, state = vae_names(vae, len(config["block_out_channels"])), vae.state_dict()
    converted = convert_ldm_vae_checkpoint({names[key]: value for key, value in state.items()}, config)
    assert converted.keys() == state.keys()
    assert all(converted[key].data_ptr() == state[key].data_ptr() for key in state)


@pytest.mark.parametrize("layout", ["text_model.", ""])
def test_a_whole_text_encoder_is_read(tmp_path, tensors, layout):
    random = random_stable_diffusion("tiny", seed=3).text_encoder
    sizes = SIZES["tiny"].text_encoder
    prefix = "cond_stage_model.transformer." + layout
    names = {key: prefix + key.removeprefix("text_model.") for key in random.state_dict()}
    tensors = {key: value for key, value in tensors.items() if not key.startswith("cond_stage_model.")}
    tensors |= {names[key]: value for key, value in random.state_dict().items()}
    tensors[prefix + "embeddings.position_ids"] = torch.arange(77)[None]
    config = json.loads(golden(CONFIG).read_text("utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**config, "text_encoder": sizes}), encoding="utf-8")
    (tmp_path / "tokenizer.json").write_text(byte_clip_json(sizes["vocab_size"]), encoding="utf-8")
    base = reread(
        tensors, tmp_path, config=tmp_path / "config.json", instead=Replacements(tokenizer=tmp_path / "tokenizer.json")
    )
    ids = torch.randint(0, 500, (2, 77), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(base.text_encoder(ids).last_hidden_state, random(ids).last_hidden_state)
    assert base.tokenizer.json == byte_clip_json(sizes["vocab_size"]) and base.tokenizer.pad_token == "<|endoftext|>"
    lost = prefix + "encoder.layers.1.mlp.fc1.bias"
    del tensors[lost]
    with pytest.raises(CheckpointError, match=rf"missing {lost}"):
        reread(tensors, tmp_path, config=tmp_path / "config.json")


def test_all_misfits_of_all_parts_are_listed_at_once(tmp_path, tensors):
    del tensors["model.diffusion_model.input_blocks.1.0.in_layers.0.bias"]
    del tensors["first_stage_model.quant_conv.bias"]
    tensors["model.diffusion_model.out.2.bias"] = torch.ones(5)
    tensors["model.diffusion_model.input_blocks.9.0.bias"] = torch.ones(5)
    tensors["first_stage_model.decoder.mid.attn_1.q.weight"] = torch.ones(64, 64, 3, 3)
    tensors["control_model.zero.bias"] = torch.ones(2)
    with pytest.raises(CheckpointError) as caught:
        reread(tensors, tmp_path)
    assert [line.strip() for line in caught.value.problems if line.startswith("  ")] == [
        "unexpected control_model.zero.bias [2]",
        "missing model.diffusion_model.input_blocks.1.0.in_layers.0.bias [32]",
        "unexpected model.diffusion_model.input_blocks.9.0.bias [5]",
        "wrong model.diffusion_model.out.2.bias: expected [4], got [5]",
        "missing first_stage_model.quant_conv.bias [8]",
        "wrong first_stage_model.decoder.mid.attn_1.q.weight: expected [64, 64], got [64, 64, 3, 3]",
    ]


def test_known_extras_and_half_precision(tmp_path, tensors, base):
    tensors |= {
        "model_ema.decay": torch.tensor(0.9999),
        "model_ema.diffusion_modeltime_embed0weight": torch.ones(3),
        "first_stage_model.loss.logvar": torch.ones(1),
        "scale_factor": torch.tensor(0.18215),
        "v_pred": torch.tensor([]),
        "embedding_manager.string_to_param_dict.*": torch.ones(2),
    }
    tensors = {key: value.half() if value.is_floating_point() else value for key, value in tensors.items()}
    halved = reread(tensors, tmp_path)
    for key, value in halved.unet.state_dict().items():
        assert value.dtype == torch.float32 and torch.equal(value, base.unet.state_dict()[key].half().float())


def test_a_configuration_of_another_schedule_or_size(tmp_path, tensors):
    config = json.loads(golden(CONFIG).read_text("utf-8"))
    config["linear_end"] = 0.02
    (tmp_path / "other.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(
        CheckpointError, match=r"expected alphas_cumprod of 1000 steps from 0\.99915 to .*got 1000 from 0\.99915 to"
    ):
        reread(tensors, tmp_path, config=tmp_path / "other.json")
    with pytest.raises(CheckpointError, match=r"sd\.ckpt .* with Stable Diffusion v1's configuration does not fit"):
        reread(tensors, tmp_path, config=None)


def test_the_files_own_prediction_and_schedule(tmp_path, tensors):
    """By marks, by alphas_cumprod alone, and by the metadata of safetensors, each as webuis write them."""
    alphas = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    roots = np.sqrt(alphas)
    zero_snr = ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2
    del tensors["betas"]
    found = reread(tensors | {"v_pred": torch.ones(0), "ztsnr": torch.ones(0)}, tmp_path).scheduler
    assert (found["prediction_type"], found["rescale_betas_zero_snr"]) == ("v_prediction", True)
    found = reread(tensors | {"alphas_cumprod": torch.tensor(zero_snr)}, tmp_path).scheduler
    assert found["rescale_betas_zero_snr"] and "trained_betas" not in found
    found = reread(tensors | {"alphas_cumprod": torch.tensor(alphas**1.5)}, tmp_path).scheduler
    assert np.allclose(np.cumprod(1 - np.asarray(found["trained_betas"])), alphas**1.5)
    with pytest.raises(CheckpointError, match=r"expected alphas_cumprod of 1000 steps .*got 2 from 0\.9 to 0\.8"):
        reread(tensors | {"alphas_cumprod": torch.tensor([0.9, 0.8])}, tmp_path)
    save_file(dict(tensors), tmp_path / "sd.safetensors", {"modelspec.prediction_type": "v"})
    read = read_stable_diffusion(tmp_path / "sd.safetensors", golden(CONFIG))
    assert read.scheduler["prediction_type"] == "v_prediction"
