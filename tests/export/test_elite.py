"""ELITE, from the authors' files to the picture, through ONNX Runtime against the authors' run."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from x2i.export.components.denoiser import NoisePrediction, denoiser_component
from x2i.export.exporter import export_bundle
from x2i.export.plan import ExportPlan
from x2i.export.to_onnx import to_onnx
from x2i.kernels.injected_attention.reference import column_mask
from x2i.models.stable_diffusion.base import read_stable_diffusion
from x2i.runtime import load
from x2i.runtime.output import to_images
from x2i.runtime.samplers.registry import make_sampler
from x2i.runtime.sessions.backends import open_session
from x2i.runtime.sessions.session import GraphFile

from tests.goldens import golden, golden_arrays
from tests.made_once import made_once
from tests.numerics import assert_close, assert_same_picture

STEPS = range(3)


@pytest.fixture(scope="module")
def pipeline():
    model, checkpoints = golden("elite/model"), golden("elite/checkpoints")
    parts = {
        "encoder": model / "image_encoder",
        "global": checkpoints / "global_mapper.pt",
        "local": checkpoints / "local_mapper.pt",
    }

    def export(out):
        export_bundle(ExportPlan("elite", out, str(model), parts=parts))

    return load(made_once("golden-elite", export, (model, checkpoints)))


@pytest.fixture(scope="module")
def coupled(tmp_path_factory):
    """The denoiser as the authors run a batch of pictures: one maximum for all of them."""
    unet = read_stable_diffusion(str(golden("elite/model"))).unet
    component = replace(denoiser_component(unet, injected=True), module=NoisePrediction(unet, coupled_attention).eval())
    path = tmp_path_factory.mktemp("coupled") / "denoiser.onnx"
    to_onnx(component, path)
    return open_session("cpu", GraphFile("network", path))


def coupled_attention(query, key, value, local_key, local_value, token_index, strength, num_heads):
    def heads(x):
        return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)

    q, k, v, kl, vl = map(heads, (query, key, value, local_key, local_value))
    scale = q.shape[-1] ** -0.5
    p = (q @ k.mT * scale).softmax(-1)
    column = p.gather(-1, token_index.view(-1, 1, 1, 1).expand(*p.shape[:-1], 1))
    weight = strength.view(-1, 1, 1, 1) * column / column.amax((0, 1, 2, 3), keepdim=True)
    return (p @ v + weight * ((q @ kl.mT * scale).softmax(-1) @ vl)).transpose(1, 2).flatten(2)


def noise_of(pipeline, latents, timestep, context, local, index, strength, denoiser=None):
    """The graphs' noise for a context and patches, projected as the runtime does it; `strength` 0 leaves them out."""
    batch = len(latents)
    projected = pipeline.session("projection")(context=context)
    projected |= pipeline.session("local_projection")(context=local)
    return (denoiser or pipeline.session("denoiser"))(
        latents=latents,
        timestep=np.full(batch, timestep, np.float32),
        token_index=np.asarray(index),
        strength=np.full(batch, strength, np.float32),
        **projected,
    )["noise"]


@pytest.mark.parametrize("branch", ["clip", "obj"])
def test_vision(pipeline, branch):
    expected, pixels = golden_arrays("elite/golden/vision.npz"), golden_arrays("elite/golden/preprocess_mug.npz")
    levels = pipeline.session("encoder")(pixels=pixels[f"pixel_values_{branch}"][None])
    for number in range(5):
        assert_close(levels[f"level.{number}"], expected[f"{branch}_feat_{number}"], "elite-stage")


def test_global_mapper(pipeline):
    arrays = golden_arrays("elite/golden/mapper_global.npz")
    words = pipeline.session("global_mapper")(**{f"level.{i}": arrays[f"emb_{i}"] for i in range(5)})["words"]
    assert_close(words, arrays["out"], "elite-stage")


def test_local_mapper(pipeline):
    arrays = golden_arrays("elite/golden/mapper_local.npz")
    levels = {f"level.{i}": arrays[f"emb_{i}"] for i in range(5)}
    mapper = pipeline.session("local_mapper")
    assert_close(mapper(mask=np.ones((2, 256), np.float32), **levels)["local"], arrays["out"], "elite-stage")
    assert_close(mapper(mask=arrays["mask"][..., 0], **levels)["local"], arrays["out_masked"], "elite-stage")


@pytest.mark.parametrize(
    "case", ["inject_1word", "inject_5words", "inject_5words_end", "inject_index0", "plain", "uncond"]
)
def test_text(pipeline, case):
    arrays = golden_arrays(f"elite/golden/text_{case}.npz")
    batch = len(arrays["input_ids"])
    words = arrays.get("inj_embedding", np.ones((batch, 1, 64), np.float32))
    index = arrays.get("inj_index", np.full(batch, 77))
    placed = {"words": words, "word_index": index, "learned": np.zeros((batch, 1, 64), np.float32)}
    context = pipeline.session("text_encoder")(input_ids=arrays["input_ids"], **placed)["context"]
    assert_close(context, arrays["last_hidden_state"], "elite-stage")


@pytest.mark.parametrize("step", STEPS)
def test_unet(pipeline, step):
    arrays = golden_arrays("elite/golden/unet.npz")
    sample, context, local = arrays["sample"], arrays["context"], arrays["local"]
    index, strength, timestep = arrays["index"], float(arrays["lam"]), arrays["timesteps"][step]
    one = noise_of(pipeline, sample[:1], timestep, context[:1], local[:1], index[:1], strength)
    assert_close(one, arrays[f"cond_b1_t{step}"], "elite-stage")
    both = noise_of(pipeline, sample, timestep, context, local, index, 0.0)
    assert_close(both, arrays[f"global_b2_t{step}"], "elite-stage")
    alone = noise_of(pipeline, sample[:1], timestep, arrays["uncond_context"], local[:1], index[:1], 0.0)
    assert_close(alone, arrays[f"uncond_b1_t{step}"], "elite-stage")


@pytest.mark.parametrize("step", STEPS)
def test_unet_of_a_coupled_batch(pipeline, coupled, step):
    arrays = golden_arrays("elite/golden/unet.npz")
    inputs = [arrays[name] for name in ("context", "local", "index")]
    timestep, strength = arrays["timesteps"][step], float(arrays["lam"])
    both = noise_of(pipeline, arrays["sample"], timestep, *inputs, strength, coupled)
    assert_close(both, arrays[f"cond_b2_t{step}"], "elite-stage")


def test_pictures_of_one_batch_do_not_influence_each_other(pipeline):
    arrays = golden_arrays("elite/golden/unet.npz")
    inputs = [arrays[name] for name in ("sample", "context", "local", "index")]
    sample, context, local, index = inputs
    both = noise_of(pipeline, sample, 500, context, local, index, 0.8)
    for row in range(2):
        alone = noise_of(
            pipeline, *(x[row : row + 1] for x in (sample,)), 500, *(x[row : row + 1] for x in inputs[1:]), 0.8
        )
        assert_close(both[row : row + 1], alone, "elite-stage")


def test_decoder(pipeline):
    arrays = golden_arrays("elite/golden/vae_decode.npz")
    assert_close(pipeline.session("decoder")(latents=arrays["latents"])["image"], arrays["image_float"], "elite-stage")


MUG = {"subject": "elite/inputs/mug.png", "mask": "elite/inputs/mug_bg.png"}


def run_options(arrays, **changes):
    options = {name: golden(file) for name, file in MUG.items()} | {
        "noise": arrays["latents_init"],
        "steps": int(arrays["num_steps"]),
        "guidance": float(arrays["guidance"]),
        "strength": float(arrays["lam"]) if "lam" in arrays else None,
    }
    return options | changes


def test_run_equals_the_authors_step_by_step_and_to_the_picture(pipeline):
    arrays = golden_arrays("elite/golden/validate_local.npz")
    options = run_options(arrays)
    for step in pipeline.steps("a photo of a S", **options):
        assert_close(step.latents, arrays["latents_steps"][step.index], "elite-latents")
    output = pipeline("a photo of a S", **options)
    assert_same_picture(np.stack([np.asarray(image) for image in output.images]), arrays["image_u8"])


def test_conditions_equal_the_authors(pipeline):
    arrays = golden_arrays("elite/golden/validate_local.npz")
    request, _, _ = pipeline._request("a photo of a S", run_options(arrays))
    slots, _ = pipeline._conditions(request)
    assert_close(slots["context"][:1], arrays["uncond_embeddings"], "elite-stage")
    assert_close(slots["context"][1:], arrays["encoder_hidden_states"], "elite-stage")
    assert_close(slots["local"], arrays["local_embedding"], "elite-stage")


def pictures_of(pipeline, latents):
    decoder = pipeline.bundle.manifest.plan.latents.decoder
    return to_images(pipeline.session(decoder.graph)(latents=latents)["image"], decoder.to_uint8)


def test_run_of_100_steps(pipeline):
    arrays = golden_arrays("elite/golden/validate_local_100steps.npz")
    marks = iter(arrays["latents_steps"])
    for step in pipeline.steps("a photo of a S", **run_options(arrays)):
        if (step.index + 1) % 25 == 0:
            assert_close(step.latents, next(marks), "elite-latents")
            picture = np.asarray(step.preview()[0])
    assert picture.shape == arrays["image_u8"].shape[1:]
    output = pictures_of(pipeline, step.latents)
    assert_same_picture(np.stack([np.asarray(image) for image in output]), arrays["image_u8"])


@pytest.mark.parametrize(("case", "words"), [("0", 1), ("full", 5)])
def test_global_only_run(pipeline, case, words):
    arrays = golden_arrays(f"elite/golden/validate_global_token{case}.npz")
    options = run_options(arrays, global_only=True, words=words)
    for step in pipeline.steps("a photo of a S", **options):
        assert_close(step.latents, arrays["latents_steps"][step.index], "elite-latents")
    images = pictures_of(pipeline, step.latents)
    assert_same_picture(np.stack([np.asarray(image) for image in images]), arrays["image_u8"])


def test_run_at_the_size_the_model_was_made_for(pipeline):
    arrays = golden_arrays("elite/golden/validate_local_seed_64px.npz")
    output = pipeline("a photo of a S", **run_options(arrays))
    assert_close(output.latents, arrays["latents_final"], "elite-latents")
    assert_same_picture(np.asarray(output.images[0])[None, 160:352, 160:352], arrays["image_u8_crop"])


def test_coupled_batch_run(pipeline, coupled):
    """The authors' pictures of one call share a maximum; ours keep their own, so theirs are drawn by hand."""
    arrays = golden_arrays("elite/golden/validate_local_batch2.npz")
    context, nothing, local = (arrays[n] for n in ("encoder_hidden_states", "uncond_embeddings", "local_embedding"))
    index, strength, guidance = arrays["index"], float(arrays["lam"]), float(arrays["guidance"])

    def denoise(latents, timestep):
        conditional = noise_of(pipeline, latents, timestep, context, local, index, strength, coupled)
        unconditional = noise_of(pipeline, latents, timestep, nothing, local, index, 0.0)
        return unconditional + np.float32(guidance) * (conditional - unconditional)

    sampler = make_sampler("lms", pipeline.bundle.manifest.plan.latents.schedule, int(arrays["num_steps"]))
    start = arrays["latents_init"] * np.float32(sampler.noise_scale)
    for latents, expected in zip(sampler.run(start, denoise, lambda: start), arrays["latents_steps"], strict=True):
        assert_close(latents, expected, "elite-latents")
    images = pictures_of(pipeline, latents)
    assert_same_picture(np.stack([np.asarray(image) for image in images]), arrays["image_u8"])


@pytest.mark.parametrize(
    ("changes", "prompt"),
    [
        ({"strength": 0.1}, "a photo of a S"),
        ({"subject": "elite/inputs/ring.png", "mask": "elite/inputs/ring_bg.png"}, "a photo of a S"),
        ({"mask": None}, "a photo of a S"),
        ({"word": "photo"}, "a photo of a S"),
        ({}, "the S on my beach"),
    ],
    ids=["strength", "subject", "mask", "word", "prompt"],
)
def test_run_reacts_to_every_input(pipeline, changes, prompt):
    arrays = golden_arrays("elite/golden/validate_local.npz")
    base = run_options(arrays, steps=2)
    changes = {k: golden(v) if isinstance(v, str) and v.startswith("elite/") else v for k, v in changes.items()}
    before, after = pipeline("a photo of a S", **base).latents, pipeline(prompt, **base | changes).latents
    assert np.abs(before - after).max() > 1e-3 * before.std()


def test_column_mask_is_the_share_of_the_samples_own_maximum():
    p = torch.rand(2, 3, 5, 7).softmax(-1)
    mask = column_mask(p, torch.tensor([4, -1]))
    assert_close(mask[0].amax().numpy(), np.float32(1), "exact")
    assert_close(mask[1].numpy(), np.ones((3, 5, 1), np.float32), "exact")
