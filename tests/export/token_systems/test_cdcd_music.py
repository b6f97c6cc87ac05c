"""CDCD's music to a dance against its authors' arrays, through its bundle: condition, logits, tokens, waveform."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from x2i.export.errors import PlanError
from x2i.export.exporter import export_bundle
from x2i.export.plan import ExportPlan
from x2i.export.systems.registry import system_spec
from x2i.models.codecs.jukebox import LEVELS
from x2i.models.errors import CheckpointError
from x2i.models.readers.given_files import given_yaml
from x2i.models.readers.tensors import read_tensors
from x2i.models.token_transformers.dance_checkpoint import read_dance_music, read_dance_music_config
from x2i.runtime.errors import InputError
from x2i.runtime.load import load

from tests.goldens import FULL, golden, golden_arrays
from tests.made_once import made_once
from tests.numerics import TOLERANCES, assert_close
from tests.runtime.token_samplers.mask_goldens import uniform

FOLDER = "cdcd/music"
RUNS = [path.stem for path in sorted((FULL / FOLDER).glob("run_*.npz"))]


def parts() -> dict[str, Path]:
    """The files of the branch as a user names them."""
    patterns = {"checkpoint": "checkpoint/*.pth", "config": "configs/*.yaml", "codec": "synthesis/**/vqvae.pt"}
    return {part: next(golden(FOLDER).glob(pattern)) for part, pattern in patterns.items()}


def plan(out: Path, **changes: Path) -> ExportPlan:
    return ExportPlan("cdcd-music", out, parts=parts() | changes)


@pytest.fixture(scope="module")
def pipeline():
    def export(out: Path) -> None:
        export_bundle(plan(out))

    return load(made_once("cdcd-music-golden", export, list(parts().values())))


def described(name: str) -> dict:
    return json.loads(golden(f"{FOLDER}/cases.json").read_text("utf-8"))[name]


def dance(arrays, row):
    """A row of a golden as a caller gives it."""
    return {"motion": arrays["motion"][row], "video": arrays["video"][row], "genre": int(arrays["genre"][row].argmax())}


def test_the_token_of_a_dance(pipeline):
    arrays = golden_arrays(f"{FOLDER}/networks.npz")
    encode = pipeline.session("dance_encoder")
    context = encode(motion=arrays["motion"], video=arrays["video"], genre=arrays["genre"].argmax(1))["context"]
    assert_close(context, arrays["cond"], "dance")


def test_logits(pipeline):
    arrays = golden_arrays(f"{FOLDER}/networks.npz")
    projected = pipeline.session("projection")(context=arrays["cond"])
    for timestep, expected in zip(arrays["t"], arrays["logits"], strict=True):
        times = np.full(len(arrays["ids"]), timestep)
        logits = pipeline.session("transformer")(tokens=arrays["ids"], timestep=times, **projected)["logits"]
        assert_close(logits.transpose(0, 2, 1), expected, "token-logits")


def test_a_waveform_of_tokens(pipeline):
    arrays = golden_arrays(f"{FOLDER}/networks.npz")
    wave = pipeline.session("decoder")(tokens=arrays["decode_tokens"])["waveform"]
    assert_close(wave, arrays["decode_wave"][..., 0], "music-wave")


@pytest.mark.parametrize("name", RUNS)
def test_a_run_step_by_step_to_the_waveform(pipeline, name):
    """Its rows are dances of their own, each a run with the noise of that row."""
    case, arrays = described(name), golden_arrays(f"{FOLDER}/{name}.npz")
    for row in range(arrays["tokens_after"].shape[1]):
        noise, start = {"draw": uniform(arrays["noise_u16"])[:, row : row + 1]}, {}
        if "music" in arrays:
            noise["forward"] = uniform(arrays["q_sample_noise_u16"])[None, row : row + 1]
            start = {"sound": (arrays["music"][row, 0], 22050), "strength": case["filter_ratio"]}
        walk = pipeline.steps(**dance(arrays, row), **start, truncation=case["truncation"], noise=noise)
        for number, step in enumerate(walk):
            assert step.timestep == arrays["call_t"][number]
            assert np.array_equal(step.tokens[0], arrays["tokens_after"][number, row]), f"row {row}, step {number}"
        assert number == len(arrays["call_t"]) - 1
        output = walk.finish(step)
        assert np.array_equal(output.tokens[0], arrays["final_tokens"][row])
        assert len(output.sounds[0].samples) == arrays["wave"].shape[1]
        assert_close(output.sounds[0].samples, arrays["wave"][row], "music-wave")


def test_a_waveform_to_tokens(pipeline):
    arrays = golden_arrays(f"{FOLDER}/networks.npz")
    tokens = pipeline.session("sound_tokens")(waveform=arrays["encode_wave"][:, 0])["tokens"]
    assert np.array_equal(tokens, arrays["encoded_tokens_top"])


def test_one_other_token_is_heard(pipeline):
    arrays = golden_arrays(f"{FOLDER}/networks.npz")
    tokens = arrays["decode_tokens"].copy()
    tokens[0, -1] = (tokens[0, -1] + 1) % pipeline.bundle.manifest.plan.process.sampler.classes
    wave = pipeline.session("decoder")(tokens=tokens)["waveform"]
    assert np.abs(wave - arrays["decode_wave"][..., 0]).max() > 1000 * TOLERANCES["music-wave"].absolute


@pytest.mark.parametrize("changed", ["motion", "video", "genre"])
def test_each_part_of_a_dance_counts(pipeline, changed):
    arrays = golden_arrays(f"{FOLDER}/networks.npz")
    given = {"motion": arrays["motion"], "video": arrays["video"], "genre": arrays["genre"].argmax(1)}
    other = given | {changed: given[changed][::-1].copy()}
    encode = pipeline.session("dance_encoder")
    assert np.abs(encode(**other)["context"] - encode(**given)["context"]).max() > 0.01


def test_steps_are_not_left_out(pipeline):
    arrays = golden_arrays(f"{FOLDER}/networks.npz")
    with pytest.raises(InputError, match="fast: this bundle visits all"):
        pipeline.steps(**dance(arrays, 0), fast=4)
    with pytest.raises(InputError, match="motion: expected an array"):
        pipeline.steps()
    with pytest.raises(InputError, match="strength: expected a sound to begin with"):
        pipeline.steps(**dance(arrays, 0), strength=0.5)
    with pytest.raises(InputError, match="strength: expected a number above 0, up to 1, got None"):
        pipeline.steps(**dance(arrays, 0), sound=(np.zeros(2000), 22050))


def test_the_schedule_of_diffsound_is_refused(tmp_path):
    content = torch.load(parts()["checkpoint"], map_location="cpu", weights_only=True)
    content["ema"]["log_cumprod_bt"] = content["ema"]["log_cumprod_bt"] + 0.01
    torch.save(content, tmp_path / "last.pth")
    with pytest.raises(PlanError, match="got another log_cumprod_bt"):
        system_spec("cdcd-music").build(plan(tmp_path / "out", checkpoint=tmp_path / "last.pth"))


def test_a_codec_of_other_codes_is_refused(tmp_path):
    tensors = read_tensors(parts()["codec"])
    changed = {key: value[1:].clone() if key.startswith("bottleneck") else value for key, value in tensors.items()}
    torch.save(changed, tmp_path / "vqvae.pt")
    config = read_dance_music_config(parts()["config"])
    with pytest.raises(CheckpointError) as refused:
        read_dance_music(parts()["checkpoint"], tmp_path / "vqvae.pt", config)
    (line,) = refused.value.problems
    classes = config.model.transformer.classes
    assert f"expected a codec of the transformer's {classes} codes, got {classes - 1}" in line
    with pytest.raises(CheckpointError, match="expected Jukebox's VQ-VAE"):
        read_dance_music(parts()["checkpoint"], written(tmp_path / "other.pt", {"a": torch.ones(1)}), config)


def written(path: Path, content: dict) -> Path:
    torch.save(content, path)
    return path


def test_the_checkpoint_s_codec_is_taken_before_the_file(tmp_path):
    tensors = read_tensors(parts()["codec"])
    codec = written(tmp_path / "vqvae.pt", {key: value + 1 for key, value in tensors.items()})
    config = read_dance_music_config(parts()["config"])
    music = read_dance_music(parts()["checkpoint"], codec, config)
    assert torch.equal(music.codec.codebook, tensors[f"bottleneck.level_blocks.{config.level}.k"])
    content = torch.load(parts()["checkpoint"], map_location="cpu", weights_only=True)
    content["model"] = {key: value for key, value in content["model"].items() if not key.startswith("vqvae.")}
    without = read_dance_music(written(tmp_path / "last.pth", content), codec, config)
    assert torch.equal(without.codec.codebook, music.codec.codebook + 1)


@pytest.mark.parametrize(
    ("section", "key", "value", "expected"),
    [
        ((), "hop_level", "lowest", "hop_level 'bottom' or 'middle' or 'top', got 'lowest'"),
        (("diffusion_config",), "alpha_init_type", "cos", "alpha_init_type 'alpha1'"),
        (("diffusion_config", "transformer_config"), "attn_type", "self", "a transformer that reads a condition"),
        (("diffusion_config",), "speed", 2, "unknown 'speed'"),
    ],
)
def test_settings_of_another_model(tmp_path, section, key, value, expected):
    content = given_yaml(parts()["config"])
    settings = content["model"]["params"]
    for name in section:
        settings = settings[name]["params"]
    settings[key] = value
    assert expected in config_refusal(tmp_path, content)


def test_two_levels_of_one_codec(tmp_path):
    content = given_yaml(parts()["config"])
    settings = content["model"]["params"]
    settings["hop_level"] = next(level for level in LEVELS if level != settings["hop_level"])
    assert "expected one hop_level" in config_refusal(tmp_path, content)


def config_refusal(folder: Path, content: dict) -> str:
    (folder / "config.yaml").write_text(yaml.safe_dump(content), "utf-8")
    with pytest.raises(CheckpointError) as refused:
        read_dance_music_config(folder / "config.yaml")
    return str(refused.value)


def test_averaged_weights_alone_are_drawn_with(tmp_path):
    config = read_dance_music_config(parts()["config"])
    right = read_dance_music(parts()["checkpoint"], parts()["codec"], config)
    content = torch.load(parts()["checkpoint"], map_location="cpu", weights_only=True)
    decoys = content["model"]
    content["ema"] = {key: decoys[f"transformer.{key}"] for key in content["ema"]}
    wrong = read_dance_music(written(tmp_path / "last.pth", content), parts()["codec"], config)
    arrays = golden_arrays(f"{FOLDER}/networks.npz")
    with torch.no_grad():
        made = [condition_of(each.condition, arrays) for each in (right, wrong)]
    assert_close(made[0], arrays["cond"], "dance")
    assert np.abs(made[1] - arrays["cond"]).max() > 0.1


def condition_of(condition, arrays) -> np.ndarray:
    genre = torch.from_numpy(arrays["genre"].argmax(1))
    return condition(torch.from_numpy(arrays["motion"]), torch.from_numpy(arrays["video"]), genre).numpy()
