"""Pictures from pictures, from a published folder to the picture: as diffusers' image-to-image and inpainting pipelines
draw them with the same weights and draws."""

import json
import re
import shutil
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline
from PIL import Image
from x2i.runtime import load
from x2i.runtime.cli import main
from x2i.runtime.errors import InputError

from tests.export.published_folders import publish
from tests.made_once import made_once
from tests.numerics import assert_close, assert_near, assert_same_picture

PROMPT, NEGATIVE = "a red apple", "blue"
HEIGHT, WIDTH = 24, 40
random = np.random.default_rng(53)
DRAWS = {
    name: random.standard_normal((1, 1, 4, HEIGHT // 8, WIDTH // 8)).astype(np.float32)
    for name in ("noise", "start", "filled")
}
PHOTO = random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
VAE = {"block_out_channels": [8, 16, 16, 16]}
SCHEDULERS = {
    "pndm": "PNDMScheduler",
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "lms": "LMSDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
}
QUICK = {"steps": 6, "guidance": 4.0, "negative": NEGATIVE, "noise": DRAWS, "spacing": "leading"}


def mask() -> np.ndarray:
    """Grey ones fall on either side of one half."""
    painted = np.zeros((HEIGHT, WIDTH), np.uint8)
    painted[5:19, 9:30] = 255
    painted[0:8, 32:40] = 128
    painted[16:24, 0:8] = 127
    return painted


def run(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def base_of(name: str, unet: dict, vae: dict | None = None) -> Path:
    """A bundle, with the folder that it was made of beside it."""

    def make(out: Path) -> None:
        out.mkdir()
        publish(out, {"sample_size": 5, **unet}, VAE | (vae or {}), {}, [], 77, "!")
        options = ["--inpainting"] if unet.get("in_channels") == 9 else []
        run("export", "sd", out / "bundle", "--base", out / "base", *options)

    return made_once(f"start-{name}", make)


@pytest.fixture(scope="module")
def plain() -> Path:
    return base_of("plain", {})


@pytest.fixture(scope="module")
def filling() -> Path:
    return base_of("filling", {"in_channels": 9})


@pytest.fixture(scope="module")
def pipeline(plain):
    return load(plain / "bundle", backend="cpu")


@pytest.fixture(scope="module")
def filler(filling):
    return load(filling / "bundle", backend="cpu")


@pytest.fixture
def recorded(monkeypatch) -> None:
    """diffusers draws what is recorded."""
    vae_draws = iter([DRAWS["start"][0], DRAWS["filled"][0]])

    def given(array: np.ndarray):
        return lambda *args, **kwargs: torch.from_numpy(array.copy())

    where = "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion"
    monkeypatch.setattr(f"{where}_img2img.randn_tensor", given(DRAWS["noise"][0]))
    monkeypatch.setattr(f"{where}_inpaint.randn_tensor", given(DRAWS["noise"][0]))
    monkeypatch.setattr(
        "diffusers.models.autoencoders.vae.randn_tensor", lambda *args, **kwargs: torch.from_numpy(next(vae_draws))
    )


def peer_of(folder: Path, kind: type, sampler: str):
    peer = kind.from_pretrained(folder / "base", safety_checker=None)
    config = {**peer.scheduler.config, "clip_sample": False}
    peer.scheduler = getattr(diffusers, SCHEDULERS[sampler]).from_config(config)
    peer.set_progress_bar_config(disable=True)
    return peer


def both(peer, **options) -> tuple[np.ndarray, np.ndarray]:
    """What diffusers draws: the latents, and the picture."""
    asked = {"negative_prompt": NEGATIVE, "num_inference_steps": 6, "guidance_scale": 4.0} | options
    latents = peer(PROMPT, image=Image.fromarray(PHOTO), output_type="latent", **asked).images
    picture = peer.vae.decode(latents / peer.vae.config.scaling_factor).sample
    return latents.numpy(), np.asarray(peer.image_processor.postprocess(picture, output_type="pil")[0])


@pytest.mark.parametrize(("sampler", "strength"), [*((name, 0.7) for name in SCHEDULERS), ("pndm", 1.0), ("ddim", 0.2)])
@torch.no_grad()
def test_a_start_is_redrawn_as_diffusers_does(plain, pipeline, recorded, sampler, strength):
    peer = peer_of(plain, StableDiffusionImg2ImgPipeline, sampler)
    latents, picture = both(peer, strength=strength)
    drawn = pipeline(PROMPT, start=PHOTO, start_strength=strength, sampler=sampler, **QUICK)
    assert_close(drawn.latents, latents, "latents")
    assert_same_picture(np.asarray(drawn.images[0]), picture)


@pytest.mark.parametrize("strength", [0.7, None])
@pytest.mark.parametrize("sampler", SCHEDULERS)
@torch.no_grad()
def test_a_mask_is_filled_by_latents_as_diffusers_does(plain, pipeline, recorded, sampler, strength):
    peer = peer_of(plain, StableDiffusionInpaintPipeline, sampler)
    options = {"strength": 1.0 if strength is None else strength, "height": HEIGHT, "width": WIDTH}
    latents, picture = both(peer, mask_image=Image.fromarray(mask()), **options)
    drawn = pipeline(PROMPT, start=PHOTO, inpaint=mask(), start_strength=strength, sampler=sampler, **QUICK)
    assert_close(drawn.latents, latents, "latents")
    assert_same_picture(np.asarray(drawn.images[0]), picture)


@pytest.mark.parametrize(("sampler", "strength"), [("pndm", None), ("euler", None), ("pndm", 0.7), ("heun", 0.5)])
@torch.no_grad()
def test_a_mask_is_filled_by_its_unet_as_diffusers_does(filling, filler, recorded, monkeypatch, sampler, strength):
    if strength is None:
        # Nothing of the start is encoded then: the masked picture's draw comes first.
        monkeypatch.setattr(
            "diffusers.models.autoencoders.vae.randn_tensor",
            lambda *args, **kwargs: torch.from_numpy(DRAWS["filled"][0].copy()),
        )
    peer = peer_of(filling, StableDiffusionInpaintPipeline, sampler)
    options = {"strength": 1.0 if strength is None else strength, "height": HEIGHT, "width": WIDTH}
    latents, picture = both(peer, mask_image=Image.fromarray(mask()), **options)
    drawn = filler(PROMPT, start=PHOTO, inpaint=mask(), start_strength=strength, sampler=sampler, **QUICK)
    assert_close(drawn.latents, latents, "latents")
    assert_same_picture(np.asarray(drawn.images[0]), picture)


@torch.no_grad()
def test_a_grey_vae_takes_a_grey_start(recorded):
    grey = base_of("grey", {}, {"in_channels": 1, "out_channels": 1})
    peer = peer_of(grey, StableDiffusionImg2ImgPipeline, "pndm")
    photo = Image.fromarray(PHOTO).convert("L")
    latents = peer(
        PROMPT,
        image=photo,
        output_type="latent",
        strength=0.7,
        negative_prompt=NEGATIVE,
        num_inference_steps=6,
        guidance_scale=4.0,
    ).images.numpy()
    drawn = load(grey / "bundle", backend="cpu")(PROMPT, start=PHOTO, start_strength=0.7, **QUICK)
    assert_close(drawn.latents, latents, "latents")
    assert drawn.images[0].mode == "L"


def drawn(pipeline, **changes) -> np.ndarray:
    options = {"start": PHOTO, "start_strength": 0.6, "steps": 5, "guidance": 3.0} | changes
    return pipeline(PROMPT, **options).latents


def differ(first: np.ndarray, second: np.ndarray) -> bool:
    return bool(np.abs(first - second).max() > 1e-3 * first.std())


def test_every_input_counts(pipeline):
    before = drawn(pipeline)
    for change in ({"start": PHOTO[::-1]}, {"start_strength": 0.8}, {"seed": 1}, {"inpaint": mask()}):
        assert differ(before, drawn(pipeline, **change)), change
    filled = drawn(pipeline, inpaint=mask())
    for change in ({"start": PHOTO[::-1]}, {"inpaint": 255 - mask()}, {"start_strength": None}):
        assert differ(filled, drawn(pipeline, **{"inpaint": mask()} | change)), change


def test_what_the_mask_leaves_black_is_the_encoded_start(pipeline):
    """By latents, the last step leaves the clean start there, bit for bit."""
    black = mask()[::8, ::8] < 128
    one, other = (drawn(pipeline, inpaint=mask(), seed=3, start_strength=share) for share in (0.4, 1.0))
    assert np.array_equal(one[0, :, black], other[0, :, black]) and differ(one[0, :, ~black], other[0, :, ~black])


@pytest.mark.parametrize("options", [{}, {"inpaint": mask()}], ids=["redrawn", "filled"])
def test_each_picture_of_several_has_its_own_draws(pipeline, filler, options):
    several = drawn(pipeline, count=3, seed=7, **options)
    for number in range(3):
        assert_close(several[number : number + 1], drawn(pipeline, seed=7 + number, **options), "batched-latents")
    if options:
        both = drawn(filler, count=2, seed=7, **options)
        assert_close(both[1:], drawn(filler, seed=8, **options), "batched-latents")


def test_without_a_start_nothing_has_changed_and_its_graph_stays_closed(plain):
    pipeline = load(plain / "bundle", backend="cpu")
    latents = pipeline(PROMPT, steps=3).latents
    assert "vae_encoder" not in pipeline._sessions.open
    again = pipeline(PROMPT, steps=3, start=PHOTO, start_strength=1.0, size=(40, 40)).latents
    assert "vae_encoder" in pipeline._sessions.open and differ(latents, again)
    assert np.array_equal(pipeline(PROMPT, steps=3).latents, latents)


def test_previews_are_pictures_with_what_is_kept(pipeline):
    steps = list(pipeline.steps(PROMPT, start=PHOTO, inpaint=mask(), start_strength=0.6, steps=5, sampler="ddim"))
    assert [(step.index, step.count) for step in steps] == [(0, 3), (1, 3), (2, 3)]
    sizes = {step.preview()[0].size for step in pipeline.steps(PROMPT, start=PHOTO, steps=5)}
    assert sizes == {(WIDTH, HEIGHT)}


def test_a_start_is_scaled_to_the_size_that_is_asked_for(pipeline):
    photo = random.integers(0, 256, (29, 44, 3), dtype=np.uint8)
    with pytest.warns(UserWarning, match="start: scaled from 29x44 to 24x40 pixels"):
        assert drawn(pipeline, start=photo).shape == (1, 4, 3, 5)
    with pytest.warns(UserWarning, match="start: scaled from 29x44 to 16x64 pixels"):
        scaled = drawn(pipeline, start=photo, size=(16, 64))
    by_hand = np.asarray(Image.fromarray(photo).resize((64, 16), Image.Resampling.LANCZOS))
    assert np.array_equal(scaled, drawn(pipeline, start=by_hand))


def test_under_a_memory_limit_the_picture_is_the_same(plain):
    limited = load(plain / "bundle", backend="cpu", max_memory="2GB")
    options = {"start": PHOTO, "inpaint": mask(), "start_strength": 0.6, "steps": 4}
    assert np.array_equal(
        limited(PROMPT, **options).latents, load(plain / "bundle", backend="cpu")(PROMPT, **options).latents
    )


BAD = {
    "no start to fill": (
        {"start": None, "inpaint": mask(), "start_strength": None},
        "inpaint: expected a start to fill",
    ),
    "no start to redraw": ({"start": None}, "start_strength: expected a start to redraw"),
    "all black": ({"inpaint": mask() * 0}, "inpaint: expected white on at least one of the 3x5 latents"),
    "another size": ({"inpaint": mask()[:-1]}, "inpaint: expected 24x40 pixels .* got 23x40"),
    "too small": ({"start": PHOTO[:7]}, "start: expected at least 8 pixels a side, got 7x40"),
    "no step": ({"start_strength": 0.1}, "start_strength: expected 0.2 or more, .* of 5 steps, got 0.1"),
    "nothing": ({"start_strength": 0}, "start_strength: expected 0.2 or more"),
    "beyond": ({"start_strength": 1.5}, "start_strength: expected a finite number from 0 to 1, got 1.5"),
    "no number": ({"start_strength": "half"}, "start_strength: expected a finite number"),
    "no picture": ({"start": 7}, "start: expected a file name, a PIL image or a uint8 array, got int"),
    "a draw too many": (
        {"noise": DRAWS | {"more": DRAWS["noise"]}},
        "noise: expected draws named noise, step_noise, start, filled",
    ),
    "a draw of another shape": (
        {"noise": DRAWS | {"start": DRAWS["start"][..., :1]}},
        "noise: expected draws of one shape",
    ),
    "a size beside draws": ({"noise": DRAWS, "size": (16, 16)}, "size: the noise is for 24x40"),
}


@pytest.mark.parametrize(("changes", "said"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_in_a_line(pipeline, changes, said):
    with pytest.raises(InputError, match=said) as refused:
        drawn(pipeline, **changes)
    assert len(refused.value.problems) == 1


@pytest.mark.parametrize(
    ("options", "lost"),
    [({}, "start and inpaint"), ({"start": PHOTO}, "inpaint"), ({"inpaint": mask()}, "start")],
)
def test_a_base_for_inpainting_draws_over_masked_pictures_alone(filler, options, lost):
    with pytest.raises(InputError, match=f"^{lost}: expected a picture and its mask, which this bundle fills"):
        filler(PROMPT, **options)


def test_a_base_for_inpainting_is_exported_where_that_is_asked_for(filling, plain, tmp_path):
    for base, options, said in (
        (filling, [], "for inpainting; fix: add --inpainting"),
        (plain, ["--inpainting"], "expected a UNet with in_channels 9 .* got 4, 4 and 4"),
    ):
        result = CliRunner().invoke(
            main, ["export", "sd", str(tmp_path / "out"), "--base", str(base / "base"), *options]
        )
        assert result.exit_code == 2 and re.search(said, result.output), result.output
        assert not (tmp_path / "out").exists()


def test_bundles_of_before_say_what_to_do(plain, tmp_path):
    bundle = tmp_path / "old"
    shutil.copytree(plain / "bundle", bundle)
    manifest = json.loads((bundle / "manifest.json").read_text("utf-8"))
    manifest["plan"]["conditioners"] = [c for c in manifest["plan"]["conditioners"] if "start_picture" not in c]
    manifest["graphs"].pop("vae_encoder")
    (bundle / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    old = load(bundle, backend="cpu")
    assert np.array_equal(old(PROMPT, steps=2).latents, load(plain / "bundle", backend="cpu")(PROMPT, steps=2).latents)
    with pytest.raises(InputError, match="start: this bundle takes none; leave it out, or export the bundle again"):
        old(PROMPT, steps=2, start=PHOTO)


def test_the_encoder_is_lowered_with_the_decoder(plain, filling, tmp_path):
    for number, base in enumerate((plain, filling)):
        out = tmp_path / str(number)
        run("lower", base / "bundle", out, "--precision", "fp16", "--trial-steps", 2)
        graphs = json.loads((out / "manifest.json").read_text("utf-8"))["graphs"]
        assert graphs["vae_encoder"]["precision"] == "fp16"
        run("verify", out)
        options = {"inpaint": mask(), "start_strength": 0.6}
        lowered, whole = (load(folder, backend="cpu") for folder in (out, base / "bundle"))
        assert_near(drawn(lowered, **options), drawn(whole, **options), "half-run-latents")
