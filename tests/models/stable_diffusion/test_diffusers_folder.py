"""Stable Diffusion from diffusers' own folders in every published form, equal to what diffusers loads."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import CLIPTextModel, CLIPTokenizer
from x2i.models.errors import CheckpointError
from x2i.models.random.weights import random_stable_diffusion
from x2i.models.stable_diffusion.base import Replacements, StableDiffusion, read_stable_diffusion

STEM = "diffusion_pytorch_model"
NEW_TO_OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


@pytest.fixture(scope="module")
def tiny() -> StableDiffusion:
    return random_stable_diffusion("tiny", seed=11)


@pytest.fixture(scope="module")
def published(tiny, tmp_path_factory) -> Path:
    """A folder that diffusers and transformers themselves have written."""
    folder = tmp_path_factory.mktemp("published")
    tiny.unet.save_pretrained(folder / "unet")
    tiny.vae.save_pretrained(folder / "vae")
    tiny.text_encoder.save_pretrained(folder / "text_encoder")
    PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
    ).save_pretrained(folder / "scheduler")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "tokenizer.json").write_text(tiny.tokenizer.json, encoding="utf-8")
    (folder / "tokenizer" / "special_tokens_map.json").write_text(
        json.dumps({"pad_token": {"content": "!", "lstrip": False}}), encoding="utf-8"
    )
    return folder


@pytest.fixture
def folder(published, tmp_path) -> Path:
    shutil.copytree(published, tmp_path / "sd")
    return tmp_path / "sd"


def rewrite(folder: Path, part: str, change) -> None:
    """Changes a part's tensors in place."""
    (file,) = (folder / part).glob("*.safetensors")
    save_file(change(load_file(file)), file)


def same_weights(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_equal_to_what_diffusers_loads(published):
    base = read_stable_diffusion(published)
    assert base.layout == "diffusers" and base.scaling_factor == 0.18215
    assert same_weights(base.unet, UNet2DConditionModel.from_pretrained(published / "unet"))
    assert same_weights(base.vae, AutoencoderKL.from_pretrained(published / "vae"))
    assert same_weights(base.text_encoder, CLIPTextModel.from_pretrained(published / "text_encoder"))
    peer = CLIPTokenizer.from_pretrained(published / "tokenizer")
    assert Tokenizer.from_str(base.tokenizer.json).encode("a red apple!").ids == peer("a red apple!")["input_ids"]
    assert (base.tokenizer.pad_token, base.tokenizer.pad_id, base.tokenizer.window) == ("!", peer.pad_token_id, None)
    stated = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "_class_name": "PNDMScheduler"}
    assert stated.items() <= base.scheduler.items()
    for part in (base.unet, base.vae, base.text_encoder):
        assert not part.training and not any(p.requires_grad for p in part.parameters())


@torch.no_grad()
def test_every_part_reacts_to_its_input(published):
    base = read_stable_diffusion(published)
    torch.manual_seed(1)
    x, t, context = torch.randn(1, 4, 8, 16), torch.tensor([7]), torch.randn(1, 77, 48)
    noise = base.unet(x, t, context).sample
    for other in ((x * 1.1, t, context), (x, t + 400, context), (x, t, context * 1.1)):
        assert (base.unet(*other).sample - noise).abs().max() > 1e-3
    assert (base.vae.decode(x * 1.1).sample - base.vae.decode(x).sample).abs().max() > 1e-3
    picture = torch.rand(1, 3, 64, 64)
    assert (
        base.vae.encode(1 - picture).latent_dist.mean - base.vae.encode(picture).latent_dist.mean
    ).abs().max() > 1e-3
    ids = torch.arange(77)[None]
    assert (base.text_encoder(ids + 1).last_hidden_state - base.text_encoder(ids).last_hidden_state).abs().max() > 1e-3


def test_pickled_weights(folder, tiny):
    for part, name in (("unet", STEM), ("vae", STEM), ("text_encoder", "pytorch_model")):
        (file,) = (folder / part).glob("*.safetensors")
        torch.save(load_file(file), folder / part / f"{name}.bin")
        file.unlink()
    base = read_stable_diffusion(str(folder))
    assert same_weights(base.unet, tiny.unet) and same_weights(base.text_encoder, tiny.text_encoder)


def test_half_precision_only_where_there_is_no_full(folder, tiny):
    whole = folder / "unet" / f"{STEM}.safetensors"
    halves = {key: value.half() for key, value in load_file(whole).items()}
    save_file(halves, folder / "unet" / f"{STEM}.fp16.safetensors")
    assert same_weights(read_stable_diffusion(folder).unet, tiny.unet)
    whole.unlink()
    for key, value in read_stable_diffusion(folder).unet.state_dict().items():
        assert value.dtype == torch.float32 and torch.equal(value, halves[key].float())


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_shards_as_diffusers_writes_them(folder, tiny, variant):
    shutil.rmtree(folder / "unet")
    tiny.unet.save_pretrained(folder / "unet", max_shard_size="1MB", variant=variant)
    assert len(list((folder / "unet").glob("*.safetensors"))) > 1
    assert same_weights(read_stable_diffusion(folder).unet, tiny.unet)


def test_a_damaged_shard_index(folder, tiny):
    shutil.rmtree(folder / "unet")
    tiny.unet.save_pretrained(folder / "unet", max_shard_size="1MB")
    index = folder / "unet" / f"{STEM}.safetensors.index.json"
    content = json.loads(index.read_text("utf-8"))
    index.write_text(json.dumps({"weight_map": {**content["weight_map"], "lost.bias": STEM + ".bin"}}))
    with pytest.raises(CheckpointError, match=r"expected its shards in the same folder, got no "):
        read_stable_diffusion(folder)
    some = next(iter(content["weight_map"].values()))
    index.write_text(json.dumps({"weight_map": {**content["weight_map"], "lost.bias": some}}))
    with pytest.raises(CheckpointError, match=r"missing lost\.bias"):
        read_stable_diffusion(folder)


def test_the_vaes_older_attention_names(folder, tiny):
    def older(tensors):
        for new, old in NEW_TO_OLD.items():
            tensors = {key.replace(f".attentions.0.{new}.", f".attentions.0.{old}."): v for key, v in tensors.items()}
        return tensors

    rewrite(folder, "vae", older)
    assert any(".query." in key for key in load_file(folder / "vae" / f"{STEM}.safetensors"))
    assert same_weights(read_stable_diffusion(folder).vae, tiny.vae)


@pytest.mark.parametrize("prefix", ["", "text_model.", "transformer.", "transformer.text_model.", "text_encoder."])
@pytest.mark.parametrize("extras", [{}, {"text_projection.weight": 48, "logit_scale": 1, "position_ids": 77}])
def test_clip_behind_any_prefix(folder, tiny, prefix, extras):
    def renamed(tensors):
        named = {prefix + key.removeprefix("text_model."): value for key, value in tensors.items()}
        return named | {prefix * (key != "logit_scale") + key: torch.ones(size) for key, size in extras.items()}

    rewrite(folder, "text_encoder", renamed)
    assert same_weights(read_stable_diffusion(folder).text_encoder, tiny.text_encoder)


def test_all_misfits_of_all_parts_are_listed_at_once(folder):
    rewrite(folder, "unet", lambda t: {**t, "conv_in.bias": torch.ones(3), "extra.weight": torch.ones(1)})
    rewrite(folder, "vae", lambda t: {key: value for key, value in t.items() if key != "quant_conv.weight"})
    rewrite(folder, "text_encoder", lambda t: {**t, "extra.scale": torch.ones(1)})
    with pytest.raises(CheckpointError) as caught:
        read_stable_diffusion(folder)
    assert [line.strip() for line in caught.value.problems if line.startswith("  ")] == [
        "unexpected extra.weight [1]",
        "wrong conv_in.bias: expected [32], got [3]",
        "missing quant_conv.weight [8, 8, 1, 1]",
        "unexpected extra.scale [1]",
    ]


def test_all_absent_files_are_listed_at_once(folder):
    (folder / "scheduler" / "scheduler_config.json").unlink()
    (folder / "text_encoder" / "config.json").unlink()
    (folder / "vae" / f"{STEM}.safetensors").unlink()
    with pytest.raises(CheckpointError) as caught:
        read_stable_diffusion(folder)
    assert len(caught.value.problems) == 3
    for name in ("scheduler/scheduler_config.json", "text_encoder/config.json", "weights in vae/"):
        assert name in str(caught.value)


def test_text_encoder_and_tokenizer_may_be_absent(folder):
    shutil.rmtree(folder / "text_encoder")
    shutil.rmtree(folder / "tokenizer")
    base = read_stable_diffusion(folder)
    assert base.text_encoder is None and base.tokenizer is None


def test_a_tokenizer_from_elsewhere(folder, published):
    shutil.rmtree(folder / "tokenizer")
    instead = Replacements(tokenizer=published / "tokenizer")
    assert read_stable_diffusion(folder, instead=instead).tokenizer is not None


@pytest.mark.parametrize(
    ("file", "changes", "problem"),
    [
        ("unet/config.json", {"_class_name": "UNet3DConditionModel"}, "expected UNet2DConditionModel, got UNet3D"),
        ("unet/config.json", {"new_trick": 3}, "got unknown new_trick"),
        ("unet/config.json", {"block_out_channels": [32]}, "expected a configuration its class accepts"),
        ("vae/config.json", {"norm_num_groups": 5}, "expected a configuration its class accepts"),
        ("text_encoder/config.json", {"model_type": "t5"}, "expected model_type 'clip_text_model', got 't5'"),
    ],
)
def test_unfit_settings(folder, file, changes, problem):
    settings = json.loads((folder / file).read_text("utf-8"))
    (folder / file).write_text(json.dumps({**settings, **changes}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=problem):
        read_stable_diffusion(folder)


def test_a_pickle_in_the_folder_that_wants_to_run_code(folder):
    (folder / "unet" / f"{STEM}.safetensors").unlink()
    torch.save({"a": print}, folder / "unet" / f"{STEM}.bin")
    with pytest.raises(CheckpointError, match=r"diffusion_pytorch_model\.bin refused.*print"):
        read_stable_diffusion(folder)


def test_a_configuration_beside_a_folder(folder):
    with pytest.raises(CheckpointError, match="carries its own"):
        read_stable_diffusion(folder, config=folder / "unet" / "config.json")


@pytest.mark.parametrize("base", ["nowhere", "no/such/place", "sd/v1.ckpt", "", "org/name.safetensors"])
def test_a_base_that_is_nothing(base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"fix: "):
        read_stable_diffusion(base)
