"""FastComposer, from the authors' files to the picture, through ONNX Runtime against the authors' run."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from x2i.export.exporter import export_bundle
from x2i.export.plan import ExportPlan
from x2i.export.systems.registry import system_spec
from x2i.models.stable_diffusion.base import read_stable_diffusion
from x2i.models.subjects.fastcomposer import read_fastcomposer
from x2i.runtime import load
from x2i.runtime.inputs.pictures.subjects import encoder_pixels
from x2i.runtime.output import to_images

from tests.export.lower.half_pipeline import half_pipeline
from tests.export.lower.test_half_runs import GUIDANCE, assert_same_run
from tests.goldens import golden, golden_arrays
from tests.made_once import made_once
from tests.numerics import assert_close, assert_same_picture
from tests.runtime.fastcomposer_twin import twin_run

CASES = (
    "script_two_merge4",
    "script_one_merge0",
    "script_two_merge9",
    "script_two_merge10",
    "pipeline_two_alpha00",
    "pipeline_two_alpha06",
    "pipeline_two_alpha08",
    "pipeline_two_alpha10",
    "pipeline_one_neg_res256",
    "pipeline_two_ddim_alpha06",
)


def golden_plan(out, **changes) -> ExportPlan:
    parts = {
        "checkpoint": golden("fastcomposer/checkpoint/pytorch_model.bin"),
        "encoder": golden("fastcomposer/image_encoder"),
    }
    return ExportPlan("fastcomposer", out, str(golden("fastcomposer/base")), parts=parts | changes)


@pytest.fixture(scope="module")
def pipeline():
    reads = [golden(f"fastcomposer/{folder}") for folder in ("base", "checkpoint", "image_encoder")]
    return load(made_once("golden-fastcomposer", lambda out: export_bundle(golden_plan(out)), reads))


@pytest.fixture(scope="module")
def rounded_pipeline(pipeline, tmp_path_factory):
    return half_pipeline(pipeline.bundle.folder, tmp_path_factory.mktemp("rounded"))


def case_of(name):
    """The settings, the arrays, and the arrays of the case whose conditions are the same."""
    settings = json.loads(golden("fastcomposer/cases.json").read_text())[name]
    arrays = golden_arrays(f"fastcomposer/{name}.npz")
    shared = settings.get("embeds_identical_to")
    return settings, arrays, golden_arrays(f"fastcomposer/{shared}.npz") if shared else arrays


def run_options(settings, arrays, **changes):
    options = {
        "subjects": [golden(f"fastcomposer/{name}") for name in settings["reference_images"]],
        "marker": settings["image_token"],
        "object_resolution": settings["object_resolution"],
        "negative": settings["negative_prompt"] or "",
        "steps": settings["num_inference_steps"],
        "guidance": float(settings["guidance_scale"]),
        "sampler": "ddim" if settings["scheduler"].startswith("DDIM") else None,
        "noise": arrays["initial_latents"],
        "count": settings["num_images"],
    }
    options |= {name: settings[name] for name in ("alpha", "start_merge_step") if name in settings}
    return options | changes


def noise_of(pipeline, latents, timestep, context):
    projected = pipeline.session("projection")(context=context)
    times = np.full(len(latents), timestep, np.float32)
    return pipeline.session("denoiser")(latents=latents, timestep=times, **projected)["noise"]


@pytest.mark.parametrize("name", ["one_native", "two_native", "two_256", "upsample_96", "nonsquare"])
def test_image_encoder(pipeline, name):
    arrays = golden_arrays("fastcomposer/image_encoder.npz")
    objects = pipeline.session("image_encoder")(pixels=encoder_pixels(arrays[f"{name}_u8"], 224))["objects"]
    assert_close(objects, arrays[f"{name}_object_embeds"][:, :, 0], "fastcomposer-stage")


def test_text_encoder(pipeline):
    arrays = golden_arrays("fastcomposer/text_encoder.npz")
    ids = arrays["input_ids"].astype(np.int64)
    learned = np.zeros((len(ids), 1, arrays["last_hidden_state"].shape[-1]), np.float32)
    context = pipeline.session("text_encoder")(input_ids=ids, learned=learned)["context"]
    assert_close(context, arrays["last_hidden_state"], "fastcomposer-stage")


@pytest.mark.parametrize("case", ["one", "two", "padded", "mixed"])
def test_postfuse(pipeline, case):
    arrays = golden_arrays("fastcomposer/postfuse.npz")
    text, objects, mask = (arrays[f"{case}_{name}"] for name in ("text_embeds", "object_embeds", "image_token_mask"))
    for row, count in enumerate(arrays[f"{case}_num_objects"]):
        assert mask[row].sum() == count
        index = np.where(mask[row], mask[row].cumsum() - 1, -1)[None]
        given = {"objects": objects[row : row + 1, : max(count, 1), 0], "object_index": index}
        result = pipeline.session("postfuse")(context=text[row : row + 1], **given)["fused"]
        assert_close(result, arrays[f"{case}_fused"][row : row + 1], "fastcomposer-stage")
        assert_close(result[:, ~mask[row]], text[row : row + 1, ~mask[row]], "exact")


def test_unet(pipeline):
    arrays = golden_arrays("fastcomposer/unet.npz")
    for timestep, expected in zip(arrays["timesteps"], arrays["noise_pred"], strict=True):
        noise = noise_of(pipeline, arrays["latents"], timestep, arrays["encoder_hidden_states"])
        assert_close(noise, expected, "fastcomposer-unet")


def test_decoder(pipeline):
    arrays = golden_arrays("fastcomposer/vae.npz")
    decoded = pipeline.session("decoder")(latents=arrays["latents"])["image"]
    assert_close(decoded[:, :, ::2, ::2], arrays["decoded"], "fastcomposer-stage")


@pytest.mark.parametrize("name", CASES)
def test_run_equals_the_authors(pipeline, name):
    settings, arrays, _ = case_of(name)
    options, flags = run_options(settings, arrays), arrays["used_augmented"]
    assert len(flags) == settings["unet_calls"] and (~flags).sum() == settings["text_only_calls"]
    output = pipeline(settings["prompt"], **options)
    assert output.segments == tuple(flags.astype(int))
    assert_close(output.latents, arrays["final_latents"], "fastcomposer-latents")
    assert_same_picture(np.stack([np.asarray(image) for image in output.images]), arrays["images_u8"])


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("script_two_merge9", "script_two_merge10")])
def test_every_step_equals_the_authors(pipeline, name):
    settings, arrays, _ = case_of(name)
    walk = pipeline.steps(settings["prompt"], **run_options(settings, arrays))
    for step, timestep, expected in zip(walk, arrays["timesteps"], arrays["latents_after_step"], strict=True):
        assert step.timestep == timestep
        assert_close(step.latents, expected, "fastcomposer-latents")


@pytest.mark.parametrize("name", CASES)
def test_conditions_equal_the_authors(pipeline, name):
    settings, arrays, shared = case_of(name)
    request, _, _ = pipeline._request(settings["prompt"], run_options(settings, arrays))
    slots, _ = pipeline._conditions(request)
    assert_close(slots["objects"], shared["object_embeds"][:, :, 0], "fastcomposer-stage")
    null, plain, augmented = (shared[f"{kind}_prompt_embeds"] for kind in ("null", "text", "augmented"))
    assert_close(slots["context"], np.concatenate([null, augmented]), "fastcomposer-stage")
    assert_close(slots["input_ids"][1:], shared["input_ids"], "exact")
    assert_close(slots["object_index"][1:] >= 0, shared["image_token_mask"], "exact")
    assert (slots["object_index"][0] == -1).all()
    for prefix, context in (("plain_", plain), ("", augmented)):
        for key, expected in pipeline.session("projection")(context=np.concatenate([null, context])).items():
            assert_close(slots[prefix + key], expected, "fastcomposer-stage")


def test_every_prediction_equals_the_authors(pipeline):
    _, arrays, _ = case_of("script_two_merge4")
    null, plain, augmented = (arrays[f"{kind}_prompt_embeds"] for kind in ("null", "text", "augmented"))
    before = [arrays["initial_latents"], *arrays["latents_after_step"]]
    for call, timestep in enumerate(arrays["timesteps"]):
        words = augmented if arrays["used_augmented"][call] else plain
        noise = noise_of(pipeline, np.repeat(before[call], 2, 0), timestep, np.concatenate([null, words]))
        assert_close(noise, arrays["unet_noise_pred"][call], "fastcomposer-unet")
        guided = noise[:1] + np.float32(5) * (noise[1:] - noise[:1])
        assert_close(guided, arrays["guided_noise_pred"][call], "fastcomposer-unet")


def test_the_picture_before_it_is_bytes(pipeline):
    _, arrays, _ = case_of("script_two_merge4")
    decoded = pipeline.session("decoder")(latents=arrays["final_latents"])["image"]
    picture = np.clip(decoded / 2 + 0.5, 0, 1).transpose(0, 2, 3, 1)
    assert_close(picture[:, ::2, ::2], arrays["image_float_every2"], "fastcomposer-stage")
    drawn = np.stack([np.asarray(image) for image in to_images(decoded, "round")])
    assert_same_picture(drawn, arrays["images_u8"])


@pytest.mark.parametrize("decoy", [False, True], ids=["checkpoint", "base"])
def test_the_twin_tells_the_checkpoints_unet_from_the_bases(pipeline, decoy):
    """Inference written a second time draws the authors' latents, and others with the base's UNet in its place."""
    settings, arrays, _ = case_of("script_two_merge4")
    base = read_stable_diffusion(golden("fastcomposer/base"))
    plan = golden_plan(pipeline.bundle.folder)
    parts = read_fastcomposer(plan.parts["checkpoint"], plan.parts["encoder"], base)
    options = run_options(settings, arrays, sampler="pndm", start=settings["start_merge_step"])
    pictures = [np.asarray(Image.open(path)) for path in options["subjects"]]
    tokenizer = pipeline.bundle.path("tokenizer.json")
    walked, flags = twin_run(
        replace(parts, unet=base.unet) if decoy else parts, pictures, tokenizer, settings["prompt"], options
    )
    assert flags == list(arrays["used_augmented"])
    if not decoy:
        assert_close(walked[-1], arrays["final_latents"], "fastcomposer-latents")
    else:
        assert np.abs(walked[-1] - arrays["final_latents"]).max() > 0.1 * arrays["final_latents"].std()


def test_defaults_are_the_published_example(pipeline):
    settings, arrays, _ = case_of("script_two_merge4")
    options = run_options(settings, arrays, steps=12)
    explicit = pipeline(settings["prompt"], **options | {"start_merge_step": 10})
    for name in ("marker", "object_resolution", "guidance", "sampler", "negative", "start_merge_step"):
        del options[name]
    implied = pipeline(settings["prompt"], **options)
    assert implied.segments == explicit.segments == (0,) * 11 + (1,) * 2
    assert_close(implied.latents, explicit.latents, "exact")
    plan = pipeline.bundle.manifest.plan
    assert (plan.latents.sampler.name, plan.latents.sampler.steps, plan.process.guidance.scale) == ("pndm", 50, 5.0)


def test_the_encoder_needs_no_weights(pipeline, tmp_path):
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "config.json").write_bytes(golden("fastcomposer/image_encoder/config.json").read_bytes())
    build = system_spec("fastcomposer").build(golden_plan(tmp_path / "out", encoder=tmp_path / "encoder"))
    assert build.plan == replace(pipeline.bundle.manifest.plan, lora=None, paint=None)


@pytest.mark.parametrize("guidance", GUIDANCE)
def test_run_in_half_draws_the_same_picture(pipeline, rounded_pipeline, guidance):
    settings, arrays, _ = case_of("script_two_merge4")
    options = run_options(settings, arrays, guidance=guidance)
    assert_same_run(rounded_pipeline, pipeline, settings["prompt"], **options)
