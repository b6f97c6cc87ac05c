"""Published folders of many kinds at once, from the export to the picture: as diffusers' pipeline draws them."""

import json

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from transformers import CLIPTextModel

from tests.export.published_folders import publish, run

PLACEHOLDERS = ["<cat-toy>", "<cat-toy>_1"]


SELF_ATTENTION = {
    "down_block_types": ["CrossAttnDownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "CrossAttnUpBlock2D"],
}
SD2 = {"use_linear_projection": True, "upcast_attention": True, "attention_head_dim": [2, 4]}


@pytest.mark.parametrize(
    ("unet", "vae", "text", "tokens", "window", "pad", "clip_skip"),
    [
        (SELF_ATTENTION, {"out_channels": 1}, {"use_attention_mask": True}, PLACEHOLDERS, 20, "[PAD]", 1),
        (SD2, {"block_out_channels": [16, 16, 16]}, {"hidden_act": "gelu"}, PLACEHOLDERS[:1], 77, "!", 2),
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
