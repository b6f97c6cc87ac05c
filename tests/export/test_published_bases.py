"""Published folders of many kinds at once, from the export to the picture: as diffusers' pipeline draws them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from tokenizers import Tokenizer
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from x2i.models.random.byte_tokenizer import byte_clip_json
from x2i.models.random.weights import draw_weights
from x2i.runtime.cli import main

UNET = {
    "sample_size": [8, 12],
    "block_out_channels": [16, 32],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "cross_attention_dim": 24,
    "attention_head_dim": 2,
}
VAE = {"block_out_channels": [16, 16], "norm_num_groups": 8}
TEXT = {
    "vocab_size": 514,
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "bos_token_id": 512,
    "eos_token_id": 513,
}
PLACEHOLDERS = ["<cat-toy>", "<cat-toy>_1"]


def publish(folder: Path, unet: dict, vae: dict, text: dict, tokens: list[str], window: int, pad: str) -> None:
    """A folder that the libraries themselves write, with random weights."""
    blocks = len((VAE | vae)["block_out_channels"])
    kinds = {"down_block_types": ["DownEncoderBlock2D"] * blocks, "up_block_types": ["UpDecoderBlock2D"] * blocks}
    Tokenizer.from_str(byte_clip_json(514)).save(str(folder / "tokenizer.json"))
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=window, pad_token=pad)
    tokenizer.add_tokens(tokens)
    encoder = CLIPTextModel(CLIPTextConfig(**TEXT | text | {"vocab_size": len(tokenizer)}))
    encoder.config.use_attention_mask = text.get("use_attention_mask", False)
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    StableDiffusionPipeline(
        vae=draw_weights(AutoencoderKL(**VAE | kinds | vae), 2),
        text_encoder=draw_weights(encoder, 3),
        tokenizer=tokenizer,
        unet=draw_weights(UNet2DConditionModel(**UNET | unet), 1),
        scheduler=PNDMScheduler(**schedule, skip_prk_steps=True, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder / "base")


def run(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


SELF_ATTENTION = {
    "down_block_types": ["CrossAttnDownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "CrossAttnUpBlock2D"],
}
SD2 = {"use_linear_projection": True, "upcast_attention": True, "attention_head_dim": [2, 4]}


@pytest.mark.parametrize(
    ("unet", "vae", "text", "tokens", "window", "pad", "clip_skip"),
    [
        (SELF_ATTENTION, {"out_channels": 1}, {"use_attention_mask": True}, PLACEHOLDERS, 20, "[PAD]", 1),
        (SD2, {"block_out_channels": [16, 16, 16]}, {"hidden_act": "gelu"}, PLACEHOLDERS[:1], 77, "!", None),
    ],
    ids=["grey, masked, padded by a token of its own", "as Stable Diffusion 2"],
)
@torch.no_grad()
def test_the_picture_of_diffusers(tmp_path, monkeypatch, unet, vae, text, tokens, window, pad, clip_skip):
    publish(tmp_path, unet, vae, text, tokens, window, pad)
    skip = ["--clip-skip", clip_skip] if clip_skip else []
    run("export", "sd", tmp_path / "bundle", "--base", tmp_path / "base", *skip)
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text("utf-8"))
    size = manifest["plan"]["processes"][0]["decoder"]["size"]
    noise = np.random.default_rng(0).standard_normal((1, 4, 8, 12)).astype(np.float32)
    np.save(tmp_path / "noise.npy", noise)
    prompt, negative = "a <cat-toy> and a red apple!", "blue, a long text that does not fit the shorter window"
    files = ("--out", tmp_path / "picture.png", "--save-latents", tmp_path / "latents.npy")
    options = ("--negative", negative, "--steps", 3, "--guidance", 4, "--noise", tmp_path / "noise.npy")
    run("run", tmp_path / "bundle", prompt, "--backend", "cpu", *files, *options)
    if not hasattr(CLIPTextModel, "text_model"):  # diffusers' clip_skip looks for the model inside the model
        monkeypatch.setattr(CLIPTextModel, "text_model", property(lambda self: self), raising=False)
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "base", safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    asked = {"negative_prompt": negative, "num_inference_steps": 3, "guidance_scale": 4.0, "clip_skip": clip_skip}
    asked |= {"latents": torch.from_numpy(noise)}
    latents = pipeline(prompt, output_type="latent", **asked).images.numpy()
    picture = pipeline(prompt, output_type="pil", **asked).images[0]
    assert np.abs(np.load(tmp_path / "latents.npy") - latents).max() < 1e-4 * latents.std()
    drawn = Image.open(tmp_path / "picture.png")
    assert (drawn.mode, drawn.size) == (picture.mode, picture.size) and size == list(picture.size)[::-1]
    assert np.abs(np.asarray(drawn).astype(int) - np.asarray(picture)).max() <= 1
