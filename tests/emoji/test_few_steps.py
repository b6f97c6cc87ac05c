"""Few steps and the tiny decoder of the embedded models: the stages, and what they published."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from x2i.emoji.embedded import FEW_STEPS, LORA, TINY_VAE, embedded_few_steps_sd
from x2i.emoji.eval_prompts import evaluation_grid
from x2i.emoji.few_steps import lora_stage, tiny_vae_stage
from x2i.emoji.few_steps.publish import publish_few_steps, write_fused
from x2i.emoji.world.captions import caption
from x2i.emoji.world.judge import Verdict, judge
from x2i.emoji.world.vocabulary import picture_keys
from x2i.export.exporter import export_bundle
from x2i.export.plan import ExportPlan
from x2i.runtime import load
from x2i.runtime.gate.metrics import psnr
from x2i.runtime.output import to_images

from tests.bundles import whole_embedded
from tests.emoji.five_pictures import few_names
from tests.made_once import made_once
from tests.numerics import assert_close

STAGES = {"few_step": lora_stage, "tiny_vae": tiny_vae_stage}
__all__ = ["few_names"]


@pytest.fixture(scope="module")
def folder(few_names, tmp_path_factory):
    """State files of both stages behind two steps, the second of them by another call."""
    path = tmp_path_factory.mktemp("emoji")
    with pytest.MonkeyPatch.context() as patch:
        for name, stage in STAGES.items():
            patch.setattr(stage, "BATCH", 2)
            patch.setattr(stage, "low_precision", nullcontext)
            stage.train(path, minutes=1e6, steps=1)
            before = torch.load(path / f"{name}.pt", weights_only=True)["module"]
            stage.train(path, minutes=1e6, steps=2)
            after = torch.load(path / f"{name}.pt", weights_only=True)
            assert after["steps"] == 2
            moved = {key for key, value in before.items() if not torch.equal(value, after["module"][key])}
            assert len(moved) > 20 and (name != "few_step" or all("lora_" in key for key in moved))
    return path


def test_what_is_published_is_read_by_the_libraries(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("x2i.emoji.few_steps.publish.LORA", tmp_path / "lora" / LORA.name)
    monkeypatch.setattr("x2i.emoji.few_steps.publish.TINY_VAE", tmp_path / "tiny")
    publish_few_steps(folder, 0.0)
    tiny = AutoencoderTiny.from_pretrained(tmp_path / "tiny")
    expected = tiny_vae_stage.trained(folder).state_dict()
    for name, value in tiny.state_dict().items():
        assert_close(value.numpy(), expected[name].half().float().cpu().numpy(), "exact")
    assert sum(path.stat().st_size for path in (tmp_path / "lora").iterdir()) <= 1e6


def test_a_student_is_the_identity_where_there_is_no_noise():
    noise, noisy = torch.randn(2, 3, 4, 5, 5)
    timesteps = torch.tensor([0, 0, 999])
    clean = lora_stage.consistent(noise, noisy, timesteps)
    assert_close(clean[:2].numpy(), noisy[:2].numpy(), "exact")
    assert (clean[2] - noisy[2]).abs().max() > 1


@pytest.fixture(scope="module")
def pipeline():
    return load(made_once("embedded-few-steps-sd", lambda out: export_bundle(embedded_few_steps_sd(out))), "cpu")


def test_the_published_weights_are_small():
    assert LORA.stat().st_size <= 1e6
    assert (TINY_VAE / "diffusion_pytorch_model.safetensors").stat().st_size <= 3e5
    assert set(FEW_STEPS) == {"sd", "gluegen-text", "elite", "fastcomposer"}


def test_four_steps_and_a_tiny_decoder_draw_what_is_asked(pipeline, embedded_whole_sd):
    near = []
    for key, colour, seed in list(evaluation_grid(picture_keys(), 1))[::8]:
        output = pipeline(caption("English", key, colour), seed=seed)
        assert len(output.graphs) == 4 and judge(np.asarray(output.images[0])) == Verdict(key, colour)
        whole = to_images(embedded_whole_sd.session("decoder")(latents=output.latents)["image"], "round")[0]
        near.append(psnr(np.asarray(output.images[0]), np.asarray(whole)))
    assert min(near) > 20


@pytest.fixture(scope="module")
def embedded_whole_sd():
    return load(whole_embedded("sd"), "cpu")


def test_the_fused_folder_is_the_base_with_the_lora(pipeline, tmp_path):
    export_bundle(ExportPlan("sd", tmp_path / "bundle", str(write_fused(tmp_path / "fused")), few_step="lcm"))
    fused = load(tmp_path / "bundle", "cpu")
    assert fused.bundle.manifest.plan.latents.sampler == pipeline.bundle.manifest.plan.latents.sampler
    prompt = caption("English", "panda", "green")
    assert_close(fused(prompt, seed=5).latents, pipeline(prompt, seed=5).latents, "latents")
