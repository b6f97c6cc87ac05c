"""Diffsound against its authors' arrays, through its bundle: texts, logits, tokens after every step, mel and sound."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from x2i.export.components.codec import MelDecoder, PictureTokens
from x2i.export.errors import PlanError
from x2i.export.exporter import export_bundle
from x2i.export.plan import ExportPlan
from x2i.export.systems.registry import system_spec
from x2i.export.token_systems.diffsound import MASKED
from x2i.models.codecs.melgan import RATIOS, read_melgan_settings
from x2i.models.codecs.token_codec import TokenCodec
from x2i.models.codecs.vqgan_checkpoint import load_vqgan, vqgan_settings
from x2i.models.errors import CheckpointError
from x2i.models.readers.config_reader import ConfigReader
from x2i.models.readers.given_files import given_yaml
from x2i.models.readers.tensors import read_tensors
from x2i.runtime.errors import InputError
from x2i.runtime.load import load

from tests.goldens import FULL, golden, golden_arrays
from tests.made_once import made_once
from tests.numerics import TOLERANCES, assert_close
from tests.runtime.token_samplers.mask_goldens import uniform

RUNS = [path.stem for path in sorted((FULL / "diffsound").glob("run_*.npz"))]
EACH_RUN = pytest.mark.parametrize("name", RUNS)


def parts() -> dict[str, Path]:
    """The files of the model as a user names them."""
    model = golden("diffsound/model")
    patterns = {
        "checkpoint": "OUTPUT/pretrained_model/*.pth",
        "config": "configs/config.yaml",
        "codec": "codebook/checkpoints/*.ckpt",
        "vocoder": "vocoder/logs/*/best_netG.pt",
    }
    found = {part: next(model.glob(pattern)) for part, pattern in patterns.items()}
    return found | {"tokenizer": next(golden("diffsound").glob("bpe*.gz"))}


def plan(out: Path, **changes: Path) -> ExportPlan:
    return ExportPlan("diffsound", out, parts=parts() | changes)


@pytest.fixture(scope="module")
def pipeline():
    def export(out: Path) -> None:
        export_bundle(plan(out))

    return load(made_once("diffsound-golden", export, [golden("diffsound/model")]))


def described(name: str) -> dict:
    return json.loads(golden("diffsound/cases.json").read_text("utf-8"))[name]


def walked(pipeline, name):
    """The run of a golden through the bundle."""
    case, arrays = described(name), golden_arrays(f"diffsound/{name}.npz")
    options = {} if case["fast"] is None else {"fast": case["fast"]}
    return pipeline.steps(
        case["prompt"], truncation=case["truncation"], noise={"draw": uniform(arrays["noise_u16"])}, **options
    ), arrays


def test_texts(pipeline):
    arrays = golden_arrays("diffsound/text_encoder.npz")
    context = pipeline.session("text_encoder")(input_ids=arrays["token"])["context"]
    assert_close(context, arrays["cond"], "token-context")
    lengths = np.linalg.norm(arrays["features"], axis=-1, keepdims=True)
    assert_close(context, arrays["features"] / lengths, "token-context")


def test_logits(pipeline):
    arrays = golden_arrays("diffsound/transformer.npz")
    projected = pipeline.session("projection")(context=arrays["cond"])
    for timestep, expected in zip(arrays["t"], arrays["logits"], strict=True):
        times = np.full(len(arrays["ids"]), timestep)
        logits = pipeline.session("transformer")(tokens=arrays["ids"], timestep=times, **projected)["logits"]
        assert_close(logits.transpose(0, 2, 1), expected, "token-logits")


def test_a_spectrogram_of_tokens(pipeline):
    arrays = golden_arrays("diffsound/codec.npz")
    height, width = pipeline.bundle.manifest.plan.process.grid
    rows = arrays["tokens_row_major"].reshape(-1, height, width)
    assert np.array_equal(rows.transpose(0, 2, 1).reshape(len(rows), -1), arrays["tokens_column_major"])
    mel = pipeline.session("decoder")(tokens=arrays["tokens_column_major"])["mel"]
    assert_close(mel, (arrays["decoded"][:, 0] + 1) / 2, "mel")


@EACH_RUN
def test_a_run_step_by_step_to_the_sound(pipeline, name):
    walk, arrays = walked(pipeline, name)
    for number, step in enumerate(walk):
        assert step.timestep == arrays["call_t"][number]
        assert np.array_equal(step.tokens, arrays["tokens_after"][number]), f"step {number}"
    assert number == len(arrays["call_t"]) - 1
    assert np.array_equal(step.tokens, arrays["final_tokens_column_major"])
    output = walk.finish(step)
    mel = pipeline.session("decoder")(tokens=output.tokens)["mel"]
    assert_close(mel, arrays["mel01"], "mel")
    assert [len(sound.samples) for sound in output.sounds] == [int(arrays["wave_samples"])] * len(mel)
    assert mel.shape[2] * np.prod(RATIOS) == arrays["wave_samples"]
    assert_close(np.stack([sound.samples for sound in output.sounds]), arrays["wave"], "wave")
    assert {sound.rate for sound in output.sounds} == {22050} and not output.images


def test_the_plan_is_the_authors(pipeline):
    process = pipeline.bundle.manifest.plan.process
    assert (process.sampler.truncation, process.guidance.scale, process.guidance.fixed) == (0.85, 1.0, True)
    with pytest.raises(InputError, match="guidance: expected 1"):
        pipeline.steps("rain", guidance=3.0)


def test_a_preview_is_heard(pipeline):
    step = next(pipeline.steps("rain", fast=pipeline.bundle.manifest.plan.process.steps // 2))
    (sound,) = step.preview()
    assert sound.rate == 22050 and np.isfinite(sound.samples).all() and np.abs(sound.samples).max() > 0.01


def wrong_tokens(pipeline, name, sampler) -> int:
    """How many tokens of a run differ when each step goes on from its authors' state by another sampler."""
    manifest = pipeline.bundle.manifest
    process = replace(manifest.plan.process, sampler=sampler)
    changed = replace(manifest, plan=replace(manifest.plan, processes=(process,)))
    walk, arrays = walked(type(pipeline)(replace(pipeline.bundle, manifest=changed), pipeline.session), name)
    step, wrong = next(walk), 0
    for number, expected in enumerate(arrays["tokens_after"]):
        wrong += int((step.tokens != expected).sum())
        if number + 1 < len(arrays["tokens_after"]):
            step = walk.send(expected.astype(np.int64))
    return wrong


def test_the_schedule_of_vq_diffusion_would_draw_other_tokens(pipeline):
    own = pipeline.bundle.manifest.plan.process.sampler
    assert own.masked == MASKED and wrong_tokens(pipeline, RUNS[0], own) == 0
    other = replace(own, masked=(MASKED[0], 0.99999), mask_replaces=False)
    assert wrong_tokens(pipeline, RUNS[0], other) > 0


def codec() -> tuple[TokenCodec, tuple[int, int]]:
    model = given_yaml(parts()["config"])["model"]["params"]
    settings = vqgan_settings(
        ConfigReader({"target": "VQModel", "params": model["content_codec_config"]["params"]}, "config")
    )
    order = model["first_stage_permuter_config"]["params"]
    vqgan = load_vqgan(settings, read_tensors(parts()["codec"]), "last.ckpt")
    return TokenCodec(vqgan), (order["H"], order["W"])


@torch.no_grad()
def test_tokens_of_a_spectrogram():
    arrays, (found, grid) = golden_arrays("diffsound/codec.npz"), codec()
    rows = PictureTokens(found)(torch.from_numpy(arrays["encoder_input"].astype(np.float32)))
    columns = rows.unflatten(1, grid).mT.flatten(1)
    assert np.array_equal(columns.numpy(), arrays["encoded_tokens_column_major"])


@torch.no_grad()
def test_what_would_be_another_spectrogram():
    arrays, (found, grid) = golden_arrays("diffsound/codec.npz"), codec()
    expected, tokens = (arrays["decoded"][:, 0] + 1) / 2, torch.from_numpy(arrays["tokens_column_major"])
    right = MelDecoder(found, grid)
    by_rows = MelDecoder(found, grid)
    by_rows.picture.by_columns = False
    clamped = MelDecoder(found, grid)
    clamped.picture.clamps = True
    wrong = {"by rows": by_rows(tokens), "clamped": clamped(tokens), "not from 0 to 1": right.picture(tokens)[:, 0]}
    assert_close(right(tokens).numpy(), expected, "mel")
    for name, mel in wrong.items():
        assert np.abs(mel.numpy() - expected).max() > 100 * TOLERANCES["mel"].absolute, name


def test_a_position_table_turned_like_the_tokens_would_give_other_logits(pipeline):
    arrays = golden_arrays("diffsound/transformer.npz")
    height, width = pipeline.bundle.manifest.plan.process.grid
    turned = np.arange(height * width).reshape(height, width).T.reshape(-1)
    # The same network with tokens moved to where the turned table has their places, and logits moved back.
    projected = pipeline.session("projection")(context=arrays["cond"])
    times = np.full(len(arrays["ids"]), arrays["t"][0])
    moved = np.empty_like(arrays["ids"])
    moved[:, turned] = arrays["ids"]
    logits = pipeline.session("transformer")(tokens=moved, timestep=times, **projected)["logits"][:, turned]
    assert np.abs(logits.transpose(0, 2, 1) - arrays["logits"][0]).max() > 100 * TOLERANCES["token-logits"].absolute


def test_files_that_do_not_belong_together(tmp_path):
    given = parts()
    beside = given["vocoder"].with_name("args.yml")
    bands = read_melgan_settings(beside).mels
    text = beside.read_text("utf-8").replace(f"n_mel_channels: {bands}", f"n_mel_channels: {bands - 1}")
    (tmp_path / "args.yml").write_text(text, "utf-8")
    tensors = read_tensors(given["vocoder"])
    torch.save(tensors | {"model.1.weight_v": tensors["model.1.weight_v"][:, 1:].clone()}, tmp_path / "best_netG.pt")
    with pytest.raises(
        PlanError, match=rf"--part vocoder .*: expected the spectrogram's {bands} bands, got {bands - 1}"
    ):
        system_spec("diffsound").build(plan(tmp_path / "out", vocoder=tmp_path / "best_netG.pt"))
    with pytest.raises(CheckpointError, match="expected a VQGAN"):
        system_spec("diffsound").build(plan(tmp_path / "out", codec=given["vocoder"]))


def test_tokens_in_another_order(tmp_path):
    text = parts()["config"].read_text("utf-8").replace("permuter.ColumnMajor", "permuter.Identity")
    (tmp_path / "config.yaml").write_text(text, "utf-8")
    with pytest.raises(CheckpointError, match="expected ColumnMajor, got Identity"):
        system_spec("diffsound").build(plan(tmp_path / "out", config=tmp_path / "config.yaml"))


def test_another_schedule(tmp_path):
    content = torch.load(parts()["checkpoint"], map_location="cpu", weights_only=True)
    content["ema"]["log_ct"] = content["ema"]["log_ct"] * 1.01
    torch.save(content, tmp_path / "last.pth")
    with pytest.raises(PlanError, match="got another log_ct"):
        system_spec("diffsound").build(plan(tmp_path / "out", checkpoint=tmp_path / "last.pth"))
