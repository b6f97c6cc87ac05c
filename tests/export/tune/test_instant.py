"""The preset `instant`: fewer steps still, no guidance, the decoder of previews."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from x2i.export.tune.candidates import WAYS, Tuning, candidates
from x2i.export.tune.tune import tune
from x2i.models.random.weights import draw_weights
from x2i.runtime import load
from x2i.runtime.bundle.preset import Preset
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.processes.guidance import Guidance

from tests.export.published_folders import TINY_VAE, publish, run
from tests.numerics import assert_close


@pytest.fixture(scope="module")
def distilled(tmp_path_factory):
    """A bundle of few steps with a tiny decoder for previews, and that decoder."""
    folder = tmp_path_factory.mktemp("instant")
    tiny = draw_weights(AutoencoderTiny(**TINY_VAE), 4)
    tiny.save_pretrained(folder / "tiny")
    made = ("--few-step", "lcm", "--preview-decoder", folder / "tiny")
    run("export", "sd", folder / "bundle", "--base", publish(folder), *made)
    return folder / "bundle", tiny


@torch.no_grad()
def test_instant_draws_as_it_says(distilled):
    folder, tiny = distilled
    found = tune(folder, Tuning("instant", quality=0.5, backend="cpu", runs=1, accept=True))
    assert found.preview_decoder and found.cache_interval == 1 and (found.steps or 4) < 4
    pipeline = load(folder, "cpu", preset="instant")
    output, plain = pipeline("a red apple", seed=3), load(folder, "cpu")("a red apple", seed=3, steps=found.steps)
    assert_close(output.latents, plain.latents, "exact")
    picture = tiny.decode(torch.from_numpy(output.latents)).sample[0].permute(1, 2, 0).numpy()
    levels = ((picture / 2 + 0.5).clip(0, 1) * 255).round()
    assert np.abs(np.asarray(output.images[0]).astype(int) - levels).max() <= 1
    assert np.abs(np.asarray(output.images[0]).astype(int) - np.asarray(plain.images[0]).astype(int)).max() > 8
    assert "decoder" not in pipeline.bundle.manifest.plan.needed_graphs("instant")
    told = run("inspect", folder)
    assert f"{found.steps} steps" in told and "decoded as previews are" in told


def test_what_is_tried(distilled):
    plan = open_bundle(distilled[0], check_files=False).manifest.plan
    tried = list(candidates(plan, 4))
    assert {preset.steps for preset in tried} == {1, 2, 3, 4} and {preset.sampler for preset in tried} == {"lcm"}
    assert {preset.preview_decoder for preset in tried} == {True, False}
    guided = replace(plan, processes=(replace(plan.latents, guidance=Guidance(4.0), preview=None),))
    ways = [way for way in WAYS if way != "unguided"]
    assert any(preset.guidance == 1 for preset in candidates(guided, 20))
    assert not any(preset.guidance or preset.preview_decoder for preset in candidates(guided, 20, ways=ways))


def test_a_preset_without_guidance(distilled, tmp_path):
    bundle = open_bundle(distilled[0])
    guided = replace(bundle.manifest.plan.latents, guidance=Guidance(4.0))
    plan = replace(bundle.manifest.plan, processes=(guided,), presets={"unguided": Preset(guidance=1.0)})
    pipeline = load(distilled[0], "cpu")
    pipeline.bundle = replace(bundle, manifest=replace(bundle.manifest, plan=plan))
    without, asked = pipeline("a red apple", preset="unguided"), pipeline("a red apple", guidance=1.0)
    assert_close(without.latents, asked.latents, "exact")
    assert np.abs(pipeline("a red apple", preset="unguided", guidance=3.0).latents - without.latents).max() > 1e-3
