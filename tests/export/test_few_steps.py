"""Distilled bases and tiny decoders, from the export to the picture: as diffusers draws them."""

import json

import diffusers.schedulers.scheduling_euler_ancestral_discrete as ancestral
import diffusers.schedulers.scheduling_lcm as consistency
import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderTiny,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    StableDiffusionPipeline,
)
from PIL import Image
from safetensors.torch import save_file
from x2i.models.random.weights import draw_weights
from x2i.models.stable_diffusion.tiny_autoencoder import read_tiny_decoder
from x2i.runtime import load
from x2i.runtime.samplers.sampler import Noise

from tests.export.published_folders import PNDM, SCHEDULE, TINY_VAE, publish, refused, run
from tests.numerics import assert_close

SIZE = (8, 12)
LCM = LCMScheduler(**SCHEDULE, original_inference_steps=40)
TRAILING = {"timestep_spacing": "trailing", **SCHEDULE}


@pytest.fixture
def drawn_alike(monkeypatch):
    """diffusers draws what a run of seed 5 does; its start noise is given to both."""
    draw = Noise(5, 1, (4, *SIZE))
    for module in (consistency, ancestral):
        monkeypatch.setattr(module, "randn_tensor", lambda *a, **k: torch.from_numpy(draw()))


def start_noise(tmp_path):
    noise = np.random.default_rng(0).standard_normal((1, 4, *SIZE)).astype(np.float32)
    np.save(tmp_path / "noise.npy", noise)
    return noise


def draw(tmp_path, *options):
    """Latents and picture of a bundle."""
    files = ("--out", tmp_path / "picture.png", "--save-latents", tmp_path / "latents.npy")
    noise = ("--noise", tmp_path / "noise.npy", "--seed", 5)
    run("run", tmp_path / "bundle", "a red apple", "--backend", "cpu", *files, *noise, *options)
    return np.load(tmp_path / "latents.npy"), np.asarray(Image.open(tmp_path / "picture.png")).astype(int)


def peer(folder, noise, steps, guidance, scheduler=None, vae=None):
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = scheduler or pipeline.scheduler
    pipeline.vae = vae or pipeline.vae
    asked = {"num_inference_steps": steps, "guidance_scale": guidance, "latents": torch.from_numpy(noise)}
    return pipeline("a red apple", output_type="latent", **asked).images


@pytest.mark.parametrize(
    ("unet", "scheduler", "steps", "guidance", "taken"),
    [
        ({"time_cond_proj_dim": 33}, LCM, 3, 6.5, "lcm"),
        ({}, LCM, 4, 1.0, "lcm"),
        ({}, PNDM, 5, 1.0, "lcm"),
        ({}, EulerDiscreteScheduler(**TRAILING), 2, 1.0, "euler"),
        ({}, EulerAncestralDiscreteScheduler(**TRAILING), 1, 1.0, "euler_a"),
    ],
    ids=["a guidance that is embedded", "a fused folder", "any folder", "turbo", "turbo, one step"],
)
@torch.no_grad()
def test_the_latents_of_diffusers(tmp_path, drawn_alike, unet, scheduler, steps, guidance, taken):
    folder, noise = publish(tmp_path, unet, scheduler=scheduler), start_noise(tmp_path)
    told = run("export", "sd", tmp_path / "bundle", "--base", folder, "--few-step", "lcm")
    assert type(scheduler).__name__ in told or "LCMScheduler" in told
    process = json.loads((tmp_path / "bundle" / "manifest.json").read_text("utf-8"))["plan"]["processes"][0]
    assert (process["sampler"]["name"], process["sampler"]["steps"]) == (taken, 4)
    assert process["guidance"]["scale"] == (8.5 if unet else 1.0)
    latents, _ = draw(tmp_path, "--steps", steps, "--guidance", guidance)
    own = LCMScheduler.from_config(PNDM.config) if scheduler is PNDM else None
    assert_close(latents, peer(folder, noise, steps, guidance, own).numpy(), "latents")
    if unet:
        said = refused("to-optimum", tmp_path / "bundle", tmp_path / "optimum")
        assert "reads its guidance scale" in said and not (tmp_path / "optimum").exists()
        other, _ = draw(tmp_path, "--steps", steps, "--guidance", guidance + 1)
        assert np.abs(other - latents).max() > 1e-3


@torch.no_grad()
def test_a_tiny_decoder_draws_and_shows_steps(tmp_path):
    folder, noise = publish(tmp_path), start_noise(tmp_path)
    tiny = draw_weights(AutoencoderTiny(**TINY_VAE), 4)
    tiny.register_to_config(scaling_factor=0.7)
    tiny.save_pretrained(tmp_path / "tiny")
    other = draw_weights(AutoencoderTiny(**TINY_VAE), 6)
    other.save_pretrained(tmp_path / "other")
    decoders = ("--decoder", tmp_path / "tiny", "--preview-decoder", tmp_path / "other")
    run("export", "sd", tmp_path / "bundle", "--base", folder, *decoders)
    latents, picture = draw(tmp_path, "--steps", 3)
    expected = peer(folder, noise, 3, 7.5)
    assert_close(latents, expected.numpy(), "latents")
    decoded = tiny.decode(expected / 0.7).sample
    assert np.abs(picture - levels(decoded)).max() <= 1 and picture.std() > 3
    # The last step of Euler's method ends at the clean latents that its call meant.
    walk = load(tmp_path / "bundle", "cpu").steps("a red apple", noise=noise, steps=3, sampler="euler")
    *_, last = ((step.latents, step.preview()[0]) for step in walk)
    shown = other.decode(torch.from_numpy(last[0])).sample
    assert np.abs(np.asarray(last[1]).astype(int) - levels(shown)).max() <= 1
    assert np.abs(levels(shown) - levels(tiny.decode(torch.from_numpy(last[0]) / 0.7).sample)).max() > 8


@torch.no_grad()
def test_the_authors_own_file_of_a_decoder(tmp_path):
    taesd = draw_weights(AutoencoderTiny(), 4)
    own = {
        f"{int(number) + 1}.{rest}": tensor
        for name, tensor in taesd.decoder.layers.state_dict().items()
        for number, rest in [name.split(".", 1)]
    }
    save_file(own, tmp_path / "taesd_decoder.safetensors")
    read = read_tiny_decoder(tmp_path / "taesd_decoder.safetensors")
    latents = torch.randn(1, 4, 5, 3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(read.decode(latents).sample, taesd.decode(latents).sample)


def test_what_is_no_tiny_decoder_of_this_base(tmp_path):
    folder = publish(tmp_path)
    draw_weights(AutoencoderTiny(**TINY_VAE, latent_channels=5), 4).save_pretrained(tmp_path / "five")
    draw_weights(AutoencoderTiny(), 4).save_pretrained(tmp_path / "eighth")
    settings = json.loads((tmp_path / "five" / "config.json").read_text("utf-8"))
    (tmp_path / "widths").mkdir()
    (tmp_path / "widths" / "config.json").write_text(json.dumps(settings | {"decoder_block_out_channels": [8, 12]}))
    (tmp_path / "pickle.pt").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    export = ("export", "sd", tmp_path / "bundle", "--base", folder)
    told = refused(*export, "--decoder", tmp_path / "five", "--preview-decoder", tmp_path / "eighth")
    assert "--decoder" in told and "4 channels, 2 pixels a latent" in told and "5 and 2" in told
    assert "--preview-decoder" in told and "4 and 8" in told
    assert "expected AutoencoderTiny, got 'AutoencoderKL'" in refused(*export, "--decoder", folder / "vae")
    assert "expected one width in decoder_block_out_channels" in refused(*export, "--decoder", tmp_path / "widths")
    assert "pickle.pt" in refused(*export, "--decoder", tmp_path / "pickle.pt")
    assert "found none at" in refused(*export, "--decoder", tmp_path / "nothing")
    assert not (tmp_path / "bundle").exists()


def levels(pictures):
    """uint8 levels, as whole numbers, of torch's pictures in -1..1."""
    return ((pictures[0] / 2 + 0.5).clamp(0, 1) * 255).round().permute(1, 2, 0).numpy().astype(int)
