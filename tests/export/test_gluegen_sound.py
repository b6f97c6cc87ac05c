"""GlueGen's sound path, from the authors' files to the picture, through ONNX Runtime against the authors' run."""

import json
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from x2i.export.errors import PlanError
from x2i.export.exporter import export_bundle
from x2i.export.plan import ExportPlan
from x2i.export.systems.gluegen_sound import build_gluegen_sound
from x2i.models.stable_diffusion.base import read_stable_diffusion
from x2i.models.translators.gluenet import read_tensor_norm
from x2i.models.translators.gluenet_sound import SoundConditioner, read_sound_translator
from x2i.runtime import load
from x2i.runtime.errors import InputError
from x2i.runtime.inputs.sound import mixed
from x2i.runtime.media.waveform import open_waveform
from x2i.runtime.pipeline import Pipeline

from tests.export.sound_twin import Authors, torch_run
from tests.goldens import golden, golden_tensors
from tests.made_once import made_once
from tests.models.sound.sound_goldens import HORN, audioclip, tensors, waveform
from tests.numerics import assert_as_close, assert_close, assert_same_picture
from tests.runtime.inputs.sounds import FRAMES, RATE, tones

TRANSLATOR = "gluegen/translators/whead_16_77_64_48_4_5"
NORM = "gluegen/multilingual/tensor_norm.safetensors"
UNCOND = "gluegen/pipeline/null_cond_tensor_tiny.pt"
NO_SILENT_BINS, SILENT_BINS = (4, 5), (0, 1, 2, 3)
DECOYS = {
    "visual.conv1.weight": torch.ones(2, 3),
    "token_embedding.weight": torch.ones(4),
    "logit_scale": torch.ones(()),
}


def sound_plan(out: Path, encoder: Path, **parts: Path) -> ExportPlan:
    """GlueGen's sound path from the goldens' checkpoint files, as a user would name them."""
    given = {
        "encoder": encoder,
        "translator": golden(TRANSLATOR + ".ckpt"),
        "tensor-norm": golden(NORM),
        "uncond": golden(UNCOND),
    }
    base, config = golden("gluegen/pipeline/sd-tiny.ckpt"), golden("gluegen/pipeline/config.json")
    return ExportPlan("gluegen-sound", out, str(base), config, parts=given | parts)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    """AudioCLIP's file, its audio branch at full size among other towers' tensors."""
    path = tmp_path_factory.mktemp("audioclip") / "AudioCLIP-Full-Training.pt"
    torch.save(tensors() | DECOYS, path)
    return path


@pytest.fixture(scope="module")
def bundle(encoder) -> Path:
    reads = [golden(f"gluegen/{folder}") for folder in ("multilingual", "pipeline", "sound", "translators")]
    return made_once("golden-sound", lambda out: export_bundle(sound_plan(out, encoder)), reads)


@pytest.fixture(scope="module")
def pipeline(bundle):
    return load(bundle)


@pytest.fixture(scope="module")
def heard(pipeline):
    """The features of one golden case, by the exported graph."""
    return cache(lambda case: pipeline.session("audio_encoder")(waveform=waveform(case)[None])["features"])


@pytest.fixture(scope="module")
def torch_base():
    return read_stable_diffusion(str(golden("gluegen/pipeline/sd-tiny.ckpt")), golden("gluegen/pipeline/config.json"))


@pytest.fixture(scope="module")
def conditioner():
    return SoundConditioner(read_sound_translator(golden(TRANSLATOR + ".ckpt")), read_tensor_norm(golden(NORM), 77))


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


def horn() -> Path:
    return golden(f"gluegen/sound/wav/{HORN}.wav")


@pytest.mark.parametrize("case", NO_SILENT_BINS)
def test_features_without_silent_bins(heard, case):
    expected = golden_tensors("gluegen/sound/sound.safetensors")[f"{case}.audio_features"]
    assert_close(heard(case), expected, "heard-features")
    assert (heard(case) * expected).sum() > 0.99999, "different clips are 0.97 to 0.99 alike"


@pytest.mark.parametrize("case", SILENT_BINS)
def test_features_of_clips_with_silent_bins(heard, case):
    """Silent bins are rounding noise, so float64 is as far off."""
    expected = golden_tensors("gluegen/sound/sound.safetensors")
    float64 = expected[f"{case}.audio_features_float64"]
    assert_as_close(heard(case), float64, expected[f"{case}.audio_features"], factor=1.0)


@pytest.mark.parametrize("case", range(6))
def test_context_of_the_authors_features(pipeline, case):
    expected = golden_tensors("gluegen/sound/sound.safetensors")
    context = pipeline.session("translator")(features=expected[f"{case}.audio_features"])["context"]
    assert_close(context[1:], expected[f"{case}.context"], "context")
    assert_close(context[:1], golden_tensors("gluegen/pipeline/sound.safetensors")["uncond"], "exact")


@pytest.mark.parametrize("case", NO_SILENT_BINS)
def test_context_from_the_sound_file_on(pipeline, heard, case):
    context = pipeline.session("translator")(features=heard(case))["context"]
    expected = golden_tensors("gluegen/sound/sound.safetensors")[f"{case}.context"]
    spread = json.loads(golden("gluegen/sound/sound.json").read_text("utf-8"))["cases"][case]["float64_vs_float32"]
    assert np.abs(context[1:] - expected).max() < spread["context_max_absdiff"]


def test_the_translator_is_the_one_that_was_trained(pipeline):
    """Its twin of the same keys mixes tokens first; both answers are on file."""
    expected = golden_tensors(TRANSLATOR + ".io.safetensors")
    norm = golden_tensors(NORM)
    (scale,) = norm.values()
    for row, tokens in enumerate(expected["input"]):
        context = pipeline.session("translator")(features=tokens.reshape(1, -1))["context"][1]
        actual = context / (scale / 2)
        assert_close(actual, expected["output"][row], "translator")
        wrong = expected["wrong_if_token_first_Translator_w_head"][row]
        assert np.abs(actual - wrong).max() > expected["output"].std()


@pytest.mark.filterwarnings("ignore:.* 5.00 s long")
def test_run_equals_the_authors_step_by_step_and_to_the_picture(pipeline):
    expected = golden_tensors("gluegen/pipeline/sound.safetensors")
    described = json.loads(golden("gluegen/pipeline/pipeline_sound.json").read_text("utf-8"))[0]
    features = golden_tensors("gluegen/sound/sound.safetensors")["1.audio_features"]
    authors = Authors(pipeline.session("audio_encoder").inputs, features)
    heard = Pipeline(pipeline.bundle, lambda graph: authors if graph == "audio_encoder" else pipeline.session(graph))
    options = {"sound": horn(), "steps": described["steps"], "guidance": described["scale"], "noise": expected["x_T"]}
    for step in heard.steps(sampler="ddim", **options):
        assert_close(step.latents, expected["x_inter"][step.index + 1], "latents")
    output = heard(**options)
    assert len(output.segments) == described["model_calls"]
    assert_close(output.latents, expected["latents"], "latents")
    assert_same_picture(np.stack([np.asarray(image) for image in output.images]), expected["image_uint8"])


@pytest.mark.filterwarnings("ignore:.* 5.00 s long")
def test_the_horn_from_its_file_is_the_authors_within_rounding(pipeline, heard):
    """What float64 changes in the context of this clip bounds what another machine may."""
    expected = golden_tensors("gluegen/pipeline/sound.safetensors")
    context = pipeline.session("translator")(features=heard(1))["context"]
    spread = json.loads(golden("gluegen/sound/sound.json").read_text("utf-8"))["cases"][1]["float64_vs_float32"]
    assert np.abs(context[1:] - expected["cond"]).max() <= spread["context_max_absdiff"]
    output = pipeline(sound=horn(), steps=10, noise=expected["x_T"])
    levels = np.abs(np.asarray(output.images[0]).astype(int) - expected["image_uint8"][0])
    assert levels.mean() < 2


@pytest.mark.parametrize("call", ["unet_first", "unet_last"])
def test_unet(pipeline, call):
    expected = golden_tensors("gluegen/pipeline/sound.safetensors")
    x, t, context = (expected[f"{call}.{name}"] for name in ("x", "t", "context"))
    projected = pipeline.session("projection")(context=context)
    noise = pipeline.session("denoiser")(latents=x, timestep=t.astype(np.float32), **projected)["noise"]
    assert_close(noise, expected[f"{call}.eps"], "unet")


def test_ddim_is_the_default_and_the_authors(pipeline):
    plan = pipeline.bundle.manifest.plan
    assert (plan.latents.sampler.name, plan.latents.sampler.steps, plan.process.guidance.scale) == ("ddim", 50, 7.5)
    assert plan.latents.sampler.aliases == {"ddim": "ddim_compvis"} and plan.latents.decoder.to_uint8 == "truncate"


@pytest.mark.filterwarnings("ignore:.* s long")
@pytest.mark.parametrize(("channels", "steps", "size", "scale"), [(1, 6, (64, 104), 7.5), (2, 7, (136, 72), 3.0)])
def test_other_clips_sizes_and_step_counts_equal_torch(pipeline, torch_base, conditioner, channels, steps, size, scale):
    samples = tones(FRAMES + 20_000 * channels, channels)
    noise = drawn(1, 4, size[0] // 8, size[1] // 8)
    with torch.no_grad():
        sound = conditioner(audioclip()(torch.from_numpy(open_waveform((samples, RATE), RATE, FRAMES).samples)))
    context = torch.cat([torch.from_numpy(golden_tensors("gluegen/pipeline/sound.safetensors")["uncond"]), sound])
    expected = torch_run(torch_base, context, noise, steps, scale)
    *_, last = pipeline.steps(sound=(samples, RATE), steps=steps, size=size, guidance=scale, noise=noise)
    assert_close(last.latents, expected.astype(np.float32), "latents")


@torch.no_grad()
@pytest.mark.parametrize(("rate", "seconds"), [(48_000, 4.2), (16_000, 1.3)])
def test_other_rates_and_lengths_equal_torch_within_rounding(pipeline, rate, seconds):
    """A converted or padded sound has silent bins: what float64 changes in its features bounds what a graph may."""
    heard = open_waveform((tones(round(rate * seconds), 2, rate), rate), RATE, FRAMES).samples
    expected = audioclip()(torch.from_numpy(heard)).numpy()
    float64 = deepcopy(audioclip()).double()(torch.from_numpy(heard).double()).numpy()
    features = pipeline.session("audio_encoder")(waveform=heard)["features"]
    assert_as_close(features, float64, expected)


@torch.no_grad()
def test_more_channels_are_added_up_as_the_authors_do(pipeline):
    """Their loader keeps every channel, and their network loops over them."""
    heard = open_waveform((tones(FRAMES, 3), RATE), RATE, FRAMES).samples
    features = pipeline.session("audio_encoder")(waveform=heard)["features"]
    module = audioclip()
    pictures = module.decibels(module.spectrogram(torch.from_numpy(heard)))[0]
    pooled = sum(module.pooled(picture[None]) for picture in pictures)
    assert_close(features, torch.nn.functional.normalize(module.fc(pooled), dim=-1).numpy(), "heard-features")
    two = pipeline.session("audio_encoder")(waveform=heard[:, :2])["features"]
    assert np.abs(features - two).max() > 1e-2


@pytest.mark.parametrize("keep", range(3, 8))
def test_mix_is_the_authors(keep):
    expected = golden_tensors("gluegen/mix/mix.safetensors")
    both = [
        np.concatenate([np.zeros_like(expected[name]), expected[name]]) for name in ("sound_context", "text_context")
    ]
    assert_close(mixed(*both, keep)[1:], expected[f"mix_k{keep}"], "context")


@pytest.fixture(scope="module")
def mixing(bundle, golden_bundle):
    return load(bundle, text_bundle=golden_bundle)


@pytest.mark.parametrize("keep", [3, 7, None])
def test_a_prompt_is_mixed_into_a_run(mixing, golden_bundle, torch_base, keep):
    """Sound and text bundle of one base; the context goes through torch's UNet and the loop above."""
    samples = tones(30_000)
    features = mixing.session("audio_encoder")(waveform=open_waveform((samples, RATE), RATE, FRAMES).samples)[
        "features"
    ]
    spoken = text_context(load(golden_bundle), "un jardin")
    context = mixed(mixing.session("translator")(features=features)["context"], spoken, keep or 5)
    assert_close(context[:1], spoken[:1], "exact")
    noise = drawn(1, 4, 16, 16)
    expected = torch_run(torch_base, torch.from_numpy(context), noise, 5, 7.5)
    amount = {} if keep is None else {"mix": keep}
    options = {"sound": (samples, RATE), "language": "French", "steps": 5, "noise": noise}
    *_, last = mixing.steps("un jardin", **options, **amount)
    assert_close(last.latents, expected.astype(np.float32), "latents")


def text_context(text, prompt):
    tokens = text._conditions._conditioners[0][1](["", prompt])
    features = text.session("encoder")(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)["features"]
    return text.session("translator.French")(features=features)["context"]


@pytest.mark.parametrize(("graph", "parts"), [("audio_encoder", 2), ("translator", 16)])
def test_graphs_react_to_every_part_of_their_input(pipeline, graph, parts):
    record = pipeline.bundle.manifest.graphs[graph]
    (name,), (result,) = ([tensor.name for tensor in side] for side in (record.inputs, record.outputs))
    # One channel is enough of a sound.
    array = np.load(pipeline.bundle.path(record.proof[name]))[:, : 1 if graph == "audio_encoder" else None]
    before = pipeline.session(graph)(**{name: array})[result][-1]
    for part in range(parts):
        changed = array.reshape(parts, -1).copy()
        changed[part] = changed[part, ::-1] * np.float32(0.5)
        after = pipeline.session(graph)(**{name: changed.reshape(array.shape)})[result][-1]
        assert np.abs(after - before).max() > 1e-3 * before.std(), f"{graph} ignores part {part}"


def test_a_sound_is_needed_and_bad_ones_are_refused(pipeline, tmp_path):
    with pytest.raises(InputError, match="sound: expected a sound"):
        pipeline()
    (tmp_path / "a.wav").write_bytes(b"no sound")
    with pytest.raises(InputError, match="got none of these"):
        pipeline(sound=tmp_path / "a.wav")


def test_parts_that_do_not_fit_are_refused(encoder, tmp_path):
    plan = sound_plan(tmp_path / "out", encoder)
    small = golden("gluegen/translators/small_whead_4_10_12_8_4_5.safetensors")
    torch.save(torch.ones(10, 1), tmp_path / "norm.pt")
    torch.save(torch.ones(1, 10, 8), tmp_path / "uncond.pt")
    others = {"translator": small, "tensor-norm": tmp_path / "norm.pt", "uncond": tmp_path / "uncond.pt"}
    with pytest.raises(PlanError, match=r"from 1024 features .* to a width of 48 .* got one from 48 to 8"):
        build_gluegen_sound(replace(plan, parts=plan.parts | others))
