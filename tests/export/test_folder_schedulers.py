"""A folder draws what diffusers' whole pipeline draws with it, whatever its scheduler is and predicts."""

from dataclasses import replace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from tokenizers import Tokenizer
from x2i.export.sampling.defaults import count_problems
from x2i.export.sampling.schedulers import read_sampling
from x2i.models.random.weights import random_stable_diffusion
from x2i.runtime import load
from x2i.runtime.pipeline import Pipeline
from x2i.runtime.samplers.sampler import Noise

from tests.bundles import tiny
from tests.numerics import assert_close
from tests.runtime.samplers.peer import same_step_noise

pytestmark = pytest.mark.filterwarnings("ignore")
SCALED = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
ZERO_SNR = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
SCHEDULERS: dict[str, dict[str, Any]] = {
    "sd-v1": {"_class_name": "PNDMScheduler", "skip_prk_steps": True, "clip_sample": False},
    "runge-kutta": {"_class_name": "PNDMScheduler"},
    "sd-v2-v": {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"},
    "zero-snr": {"_class_name": "DDIMScheduler", **ZERO_SNR},
    "zero-snr-euler": {"_class_name": "EulerDiscreteScheduler", **ZERO_SNR},
    "karras": {"_class_name": "DPMSolverMultistepScheduler", "use_karras_sigmas": True},
    "turbo": {"_class_name": "EulerAncestralDiscreteScheduler", "timestep_spacing": "trailing"},
    "unipc": {"_class_name": "UniPCMultistepScheduler", "timestep_spacing": "leading"},
    "heun": {"_class_name": "HeunDiscreteScheduler"},
    "tcd": {"_class_name": "TCDScheduler"},
}
PROMPT, STEPS, GUIDANCE = "a red apple", 5, 4.0
LATENTS = (1, 4, 6, 8)


@pytest.fixture(scope="module")
def base():
    return random_stable_diffusion("tiny")


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return load(tiny("sd"), backend="cpu")


def context(base: Any, pipeline: Pipeline, text: str) -> torch.Tensor:
    """CLIP's states of a prompt, padded to its window."""
    reads = pipeline.bundle.manifest.plan.conditioners[0].text
    assert reads is not None
    ids = Tokenizer.from_file(str(pipeline.bundle.path(reads.tokenizer))).encode(text).ids
    ids += [reads.pad_id] * (reads.window - len(ids))
    with torch.no_grad():
        return base.text_encoder(torch.tensor([ids])).last_hidden_state


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_pipeline_draws_the_same(base, pipeline: Pipeline, name: str, monkeypatch) -> None:
    config = SCALED | SCHEDULERS[name]
    peer = StableDiffusionPipeline(
        vae=base.vae,
        text_encoder=base.text_encoder,
        tokenizer=None,
        unet=base.unet,
        scheduler=getattr(diffusers, config["_class_name"]).from_config(config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    peer.set_progress_bar_config(disable=True)
    noise = np.random.default_rng(3).standard_normal(LATENTS, np.float32)
    same_step_noise(monkeypatch, Noise(0, 1, LATENTS[1:]))
    expected = peer(
        prompt_embeds=context(base, pipeline, PROMPT),
        negative_prompt_embeds=context(base, pipeline, ""),
        height=8 * LATENTS[2],
        width=8 * LATENTS[3],
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        latents=torch.from_numpy(noise),
        output_type="latent",
    ).images.numpy()
    read = read_sampling(config, name)
    assert read.sampler is not None
    plan = pipeline.bundle.manifest.plan
    plan = replace(plan, processes=(replace(plan.latents, sampler=read.sampler, schedule=read.schedule),))
    manifest = replace(pipeline.bundle.manifest, plan=plan)
    monkeypatch.setattr(pipeline, "bundle", replace(pipeline.bundle, manifest=manifest))
    *_, last = pipeline.steps(PROMPT, noise=noise, steps=STEPS, guidance=GUIDANCE)
    assert_close(last.latents, expected, "latents")


@pytest.mark.parametrize("name", ["LCMScheduler", "TCDScheduler"])
@pytest.mark.parametrize(("distilled", "steps"), [(20, 20), (50, 50), (100, 50)])
def test_a_student_of_few_timesteps_has_a_default_count_that_it_can_draw(name, distilled, steps) -> None:
    """As many as diffusers takes unasked, or as many as there are: diffusers' scheduler refuses one more."""
    config = SCALED | {"_class_name": name, "original_inference_steps": distilled}
    read = read_sampling(config, name)
    assert read.sampler is not None and read.sampler.steps == steps
    assert count_problems(read.sampler, read.schedule) == []
    peer = getattr(diffusers, name).from_config(config)
    peer.set_timesteps(steps)
    with pytest.raises(ValueError, match="original_steps"):
        peer.set_timesteps(distilled + 1)
