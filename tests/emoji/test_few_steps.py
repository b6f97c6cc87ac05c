"""Few steps and the tiny decoder of the embedded models, as they were published."""

import numpy as np
import pytest
from x2i.emoji.embedded import FEW_STEPS, LORA, TINY_VAE, embedded_few_steps_sd
from x2i.emoji.eval_prompts import evaluation_grid
from x2i.emoji.few_steps.publish import write_fused
from x2i.emoji.world.captions import caption
from x2i.emoji.world.judge import Verdict, judge
from x2i.emoji.world.vocabulary import picture_keys
from x2i.export.exporter import export_bundle
from x2i.export.plan import ExportPlan
from x2i.runtime import load
from x2i.runtime.gate.metrics import psnr
from x2i.runtime.output import to_images

from tests.bundles import whole_embedded
from tests.made_once import made_once
from tests.numerics import assert_close


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
