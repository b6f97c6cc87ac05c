"""Painted words through exported bundles against the public Stable Diffusion port of paint-with-words."""

from functools import cache, partial

import numpy as np
import pytest
import torch
from x2i.export.components.denoiser import NoisePrediction, denoiser_component
from x2i.models.context_attention import ContextProjection, cross_attention_weights
from x2i.models.stable_diffusion.base import read_stable_diffusion
from x2i.runtime.inputs.paint import painted_name
from x2i.runtime.paint.gains import PaintGains
from x2i.runtime.paint.maps import latents_grid

from tests.export.painted_golden import PWW, arrays_of, cases, filling_pipeline, options_of, pipeline, prompt_of
from tests.goldens import golden
from tests.numerics import assert_close, assert_near

TEXT_RUNS = (
    "plain",
    "pww_default",
    "pww_strong",
    "pww_std",
    "pww_std_sq",
    "pww_swapped",
    "pww_g1",
    "pww_seeds_nonsquare",
    "pww_noseeds_nonsquare",
    "pww_blur_nonsquare",
    "pww_oddsize",
    "pww_img2img",
    "pww_lms_long",
)
FILLING_RUNS = ("inpaint_full_strength", "inpaint_strength_06")
FACTORS = (1, 2, 4, 8)


def bundle_of(name):
    return filling_pipeline() if name in FILLING_RUNS else pipeline()


def run_options(name, **changes):
    """Those of the run; of one from a start that is redrawn whole, its noise on the encoded start, as the port has it,
    which others leave out."""
    options = options_of(name, **changes)
    if name == "inpaint_full_strength":
        arrays, drawing = arrays_of(name), bundle_of(name)
        request = drawing.check(prompt_of(name), **options)
        encoder = drawing.session("vae_encoder")
        pixels = request.inputs.slots.get("start_pixels")
        if pixels is None:
            pixels = (arrays["init_u8"].astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None]
        start = encoder(image=pixels, noise=arrays["posterior_noise"])["latents"]
        whole = arrays["add_noise"] + start / np.float32(request.sampler.noise_scale)
        options["noise"] = options["noise"] | {"noise": whole[None]}
    return options


@pytest.mark.parametrize("name", (*TEXT_RUNS, *FILLING_RUNS))
def test_run_equals_the_ports_step_by_step_and_to_the_picture(name):
    arrays, drawing = arrays_of(name), bundle_of(name)
    walk = drawing.steps(prompt_of(name), **run_options(name))
    for step in walk:
        assert step.timestep == pytest.approx(arrays["timesteps"][step.index], abs=1e-3)
        assert_near(step.latents, arrays["latents_after_step"][step.index], "painted-latents")
    output = walk.finish(step)
    assert len(arrays["timesteps"]) == step.count
    assert_close(np.asarray(output.images[0]), arrays["image_u8"].astype(np.int16), "painted-picture")
    graph = "denoiser" if cases()[name]["weight_scale"] == 0 else "denoiser.paint"
    assert set(output.graphs) == {graph}


@pytest.mark.parametrize("name", (*TEXT_RUNS[1:], *FILLING_RUNS))
def test_maps_equal_the_ports(name):
    arrays = arrays_of(name)
    request = bundle_of(name).check(prompt_of(name), **options_of(name))
    height, width = request.size
    for factor in FACTORS:
        queries = int(np.prod(latents_grid((height // 8, width // 8), factor)))
        expected = arrays.get(f"w_{queries}", arrays.get(f"w_fallback_{queries}"))
        maps = request.inputs.slots.get(painted_name(factor))
        if maps is None:
            assert factor == 8 and expected is not None, "the lowest level of this UNet has no cross-attention"
            continue
        assert_close(maps[-1], expected, "painted-map")
        assert len(maps) == request.rows and not maps[:-1].any()


def test_noise_of_regions_with_seeds():
    arrays, name = arrays_of("pww_seeds_nonsquare"), "pww_seeds_nonsquare"
    request = pipeline().check(prompt_of(name), **options_of(name))
    cover = arrays["region_seed_mask"].sum(axis=0, keepdims=True)
    expected = sum(
        mask * arrays[f"region_noise_{n}"] for mask, n in zip(arrays["region_seed_mask"], (2, 3), strict=True)
    )
    assert_close(request.inputs.slots["region_cover"], cover, "painted-noise")
    assert_close(request.inputs.slots["region_noise"], expected, "painted-noise")
    walk = pipeline().steps(prompt_of(name), **options_of(name))
    start = np.where(cover > 0, expected, arrays["base_noise"]) * np.float32(walk._request.sampler.noise_scale)
    assert_close(start, arrays["initial_latents"], "painted-map")


@cache
def network():
    """The port's UNet in torch, and its projections."""
    unet = read_stable_diffusion(str(golden(f"{PWW}/base"))).unet
    projection = ContextProjection(cross_attention_weights(unet)).eval()
    component = denoiser_component(unet)
    return component, projection


def noise_in_torch(latents, timestep, context, op):
    """The UNet's noise with an attention of one's own, (bias's factor, query, key, value, heads) -> output."""
    component, projection = network()
    module = component.module
    assert isinstance(module, NoisePrediction)
    for layer in component.paint.layers:
        module.attention[layer.path].attend_by(partial(op, layer.factor))
    with torch.no_grad():
        projected = projection(torch.from_numpy(context))
        rows = torch.full((len(latents),), float(timestep))
        return module(torch.from_numpy(latents), rows, *projected).numpy()


@pytest.mark.parametrize("name", ["pww_default", "pww_seeds_nonsquare"])
def test_scores_equal_the_ports(name):
    """What the factors are multiplied with, on the port's own inputs."""
    arrays, found = arrays_of(name), []

    def scored(factor, query, key, value, heads):
        q, k, v = (tensor.unflatten(-1, (heads, -1)).transpose(1, 2) for tensor in (query, key, value))
        scores = q @ k.mT
        found.append((scores.max().item(), scores.std().item(), query.shape[1]))
        bias = torch.from_numpy(arrays[f"w_{query.shape[1]}"])
        scores = scores + PaintGains(cases()[name]["weight_scale"], "max").at(sigma, 1)[0].item() * bias * scores.max()
        return ((scores * q.shape[-1] ** -0.5).softmax(-1) @ v).transpose(1, 2).flatten(2)

    for number, timestep in enumerate(arrays["timesteps"][:3]):
        found.clear()
        sigma = float(arrays["sigma_used"][number])
        noise = noise_in_torch(arrays["unet_input"][number], timestep, arrays["cond_embeds"], scored)
        maxima, deviations, queries = map(np.asarray, zip(*found, strict=True))
        assert queries.tolist() == arrays["layer_query_len"].tolist()
        assert_close(maxima, arrays["qk_max"][number], "painted-scores")
        assert_close(deviations, arrays["qk_std"][number], "painted-scores")
        assert_close(noise, arrays["noise_pred_text"][number], "painted-unet")


@pytest.mark.parametrize("form", ["b1_max", "b1_std_sq"])
def test_one_prediction_equals_the_ports(form):
    arrays = {name.removeprefix(f"{form}_"): array for name, array in arrays_of("unet").items()}
    noise = predicted(arrays, form.removeprefix("b1_"), slice(None))
    assert_close(noise, arrays["noise_pred"], "painted-unet")
    plain = predicted(arrays, "max", slice(None), strength=0.0)
    assert_close(plain, arrays["noise_pred_zero_bias"], "painted-unet")


def predicted(arrays, form, rows, strength=0.4):
    """The exported graph's noise for some rows of a recorded call."""
    latents, context = arrays["latents"][rows], arrays["context"][rows]
    batch, grid = len(latents), latents.shape[2:]
    maximum, deviation = PaintGains(strength, form).at(float(arrays["sigma"][0]), batch)
    session = pipeline().session("denoiser.paint")
    maps = {
        painted_name(factor): np.repeat(arrays[f"w_{np.prod(latents_grid(grid, factor))}"][None], batch, axis=0)
        for factor in pipeline().bundle.manifest.plan.paint.factors
    }
    return session(
        latents=latents,
        timestep=np.full(batch, arrays["timestep"][0], np.float32),
        gain_max=maximum,
        gain_deviation=deviation,
        key_bias=np.zeros((batch, 77), np.float32),
        **maps,
        **pipeline().session("projection")(context=context),
    )["noise"]


def test_pictures_of_one_call_do_not_influence_each_other():
    """The port's two rows share one maximum; met in torch, and each by itself through the graph."""
    arrays = {name.removeprefix("b2_max_"): array for name, array in arrays_of("unet").items()}
    maxima = []

    def coupled(factor, query, key, value, heads):
        q, k, v = (tensor.unflatten(-1, (heads, -1)).transpose(1, 2) for tensor in (query, key, value))
        scores = q @ k.mT
        maxima.append(scores.amax((1, 2, 3)).numpy())
        gain = 0.4 * np.log1p(float(arrays["sigma"][0]))
        scores = scores + gain * torch.from_numpy(arrays[f"w_{query.shape[1]}"]) * scores.max()
        return ((scores * q.shape[-1] ** -0.5).softmax(-1) @ v).transpose(1, 2).flatten(2)

    both = noise_in_torch(arrays["latents"], arrays["timestep"][0], arrays["context"], coupled)
    assert_close(both, arrays["noise_pred"], "painted-unet")
    together = predicted(arrays, "max", slice(None))
    for row in range(2):
        assert_close(together[row : row + 1], predicted(arrays, "max", slice(row, row + 1)), "batched")
    assert np.abs(together - arrays["noise_pred"]).max() > 1e-3, "one maximum over both rows"


CHANGES = {
    "other words": {"paint_words": {"0,0,0": "dog,1.0", "255,255,255": "cat,1.0"}},
    "weight": {"paint_words": {"0,0,0": "cat,1.5"}},
    "strength": {"paint_strength": 0.2},
    "form": {"paint_form": "std"},
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_picture_reacts_to_what_is_painted(change):
    name = "pww_default"
    given, new = options_of(name, steps=2), dict(CHANGES[change])
    if "paint_words" in new:
        new["paint_words"] = given["paint_words"] | new["paint_words"]
    one, other = (pipeline()(prompt_of(name), **given | changes).latents for changes in ({}, new))
    assert np.linalg.norm(one - other) / np.linalg.norm(one) > 1e-2
