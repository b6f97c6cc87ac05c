"""DDCap from its authors' files to captions: graphs, tokens after every call, texts; and what is refused."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from x2i.export.exporter import export_bundle
from x2i.export.plan import ExportPlan
from x2i.models.random.captioner import DDCAP_SIZES
from x2i.models.readers.loading import build_module
from x2i.models.token_transformers.ddcap import Ddcap
from x2i.runtime.cli import main
from x2i.runtime.errors import InputError
from x2i.runtime.load import load
from x2i.runtime.output import Span
from x2i.runtime.pipeline import Pipeline
from x2i.runtime.profiling.stages import plain_graphs, stages_of
from x2i.runtime.token_samplers.noise import TokenNoise
from x2i.runtime.token_samplers.sampler import TokenRun

from tests.bundles import tiny
from tests.goldens import golden, golden_arrays
from tests.made_once import made_once
from tests.models.token_transformers.ddcap_goldens import CASES, FOLDER, TAGS, checkpoint, networks
from tests.numerics import assert_close

BACKEND = "cpu"


def golden_plan(tag: str, out: Path, **parts: Path) -> ExportPlan:
    """From the files as a user would name them."""
    return ExportPlan(
        "ddcap", out, parts={"checkpoint": checkpoint(tag), "tokenizer": golden(f"{FOLDER}/gpt2")} | parts
    )


@cache
def captioner(tag: str) -> Pipeline:
    reads = [golden(f"{FOLDER}/{tag}"), golden(f"{FOLDER}/gpt2")]
    return load(made_once(f"ddcap-{tag}", lambda out: export_bundle(golden_plan(tag, out)), reads), BACKEND, threads=1)


def picture(name: str) -> Path:
    (found,) = golden(f"{FOLDER}/images").glob(f"{name}.*")
    return found


@pytest.mark.parametrize("tag", TAGS)
def test_graphs(tag: str) -> None:
    session, arrays = captioner(tag).session, networks(tag)
    seen = [session("image_encoder")(pixels=pixels[None]) for pixels in arrays["pixels"]]
    assert_close(np.concatenate([one["context"][1:] for one in seen]), arrays["embed"], "ddcap")
    assert_close(np.concatenate([one["length_logits"] for one in seen]), arrays["len_logits"], "ddcap")
    call = {"tokens": arrays["gpt_tokens"], "timestep": arrays["gpt_t"]}
    count = len(call["tokens"])
    nothing = np.repeat(seen[0]["context"][:1], count, axis=0)
    for context, expected in (
        (arrays["embed"][:count], arrays["gpt_logits"]),
        (nothing, arrays["gpt_logits_image_free"]),
    ):
        key_values = session("projection")(context=context)
        assert_close(session("transformer")(**call, **key_values)["logits"], expected, "ddcap")


def batch_run(case: str) -> TokenRun:
    """All rows of a case in one run over the exported graphs. A call of the runtime has one picture alone, but how long
    the longest caption of a batch is decides how all are revealed."""
    pipeline = captioner(CASES[case]["checkpoint"])
    process, session = pipeline.bundle.manifest.plan.process, pipeline.session
    pixels, arrays = networks(CASES[case]["checkpoint"])["pixels"], golden_arrays(f"{FOLDER}/{case}.npz")
    seen = [session("image_encoder")(pixels=pixels[number][None]) for number in arrays["image_index"]]
    sides = [np.concatenate([one["context"][side : side + 1] for one in seen]) for side in range(2)]
    key_values = session("projection")(context=np.concatenate(sides))
    lengths = np.concatenate([one["length_logits"] for one in seen])
    if not CASES[case]["natural"]:
        lengths = np.eye(lengths.shape[1], dtype=np.float32)[arrays["len_pre"] - 1]

    def predict(tokens: np.ndarray, timestep: Any) -> dict[str, np.ndarray]:
        given = {"tokens": np.concatenate([tokens] * 2), "timestep": np.concatenate([timestep] * 2)}
        logits = session("transformer")(**given, **key_values)["logits"]
        return {"logits": process.guidance.combined(logits, 2, CASES[case]["guidance_scale"])}

    count = len(seen)
    return TokenRun(predict, TokenNoise(0, count), count, process.grid, {"length": None}, {"length_logits": lengths})


@pytest.mark.parametrize("case", CASES)
def test_tokens_of_a_batch_after_every_call(case: str) -> None:
    sampler = captioner(CASES[case]["checkpoint"]).bundle.manifest.plan.process.sampler
    steps = [step.tokens for step in sampler.walk(batch_run(case))]
    assert_close(np.stack(steps), golden_arrays(f"{FOLDER}/{case}.npz")["tokens_after"], "exact")


def alone() -> list[tuple[str, int]]:
    """Every row of every case that is revealed alone as it is in its batch."""
    found = []
    for case, told in CASES.items():
        in_batch = max(told["lengths"]) > told["time_step"]
        found += [(case, row) for row, length in enumerate(told["lengths"]) if (length > told["time_step"]) == in_batch]
    return found


@pytest.mark.parametrize(("case", "row"), alone())
def test_a_caption_of_a_picture_file(case: str, row: int) -> None:
    """From the file to the text, its tokens exact after every call."""
    told, arrays = CASES[case], golden_arrays(f"{FOLDER}/{case}.npz")
    length = {} if told["natural"] else {"length": told["lengths"][row]}
    options: dict[str, Any] = {"image": picture(told["images"][row]), "guidance": told["guidance_scale"], **length}
    steps: list[np.ndarray] = []
    output = captioner(told["checkpoint"])(on_step=lambda step: steps.append(step.tokens), **options)
    assert output.texts == [told["text_before_end"][row]]
    assert_close(output.tokens, arrays["final_tokens"][row : row + 1], "exact")
    calls = told["lengths"][row] if told["branch"] == "one_per_step" else told["calls"]
    assert len(steps) == calls and not output.images and output.latents is None
    assert_close(np.concatenate(steps), arrays["tokens_after"][:calls, row], "exact")


@pytest.mark.parametrize("tag", TAGS)
def test_a_run_prints_the_caption(tag: str) -> None:
    name, row = next((name, row) for name, row in alone() if CASES[name]["checkpoint"] == tag)
    case = CASES[name]
    bundle, image = captioner(tag).bundle.folder, picture(case["images"][row])
    words = ("run", bundle, "--image", image, "--backend", BACKEND, "--guidance", case["guidance_scale"])
    words += () if case["natural"] else ("--length", case["lengths"][row])
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    (text,) = json.loads(result.stdout)["texts"]
    assert text == case["text_before_end"][row]
    # A terminal is not given what would control it.
    told = "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)
    assert run(*words).stdout.startswith(f"{told}\n")


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def refused(tmp_path: Path, *words: object) -> str:
    result = run("export", "ddcap", tmp_path / "out", *words)
    assert result.exit_code == 2 and not list(tmp_path.glob("out*")), result.output
    return result.stderr


@pytest.mark.parametrize("tag", TAGS)
def test_parts_that_do_not_fit_are_refused(tag: str, tmp_path: Path) -> None:
    (tmp_path / "odd.pt").write_bytes(b"odd")
    both = "--part", f"checkpoint={tmp_path / 'odd.pt'}", "--part", f"tokenizer={tmp_path}"
    told = refused(tmp_path, *both)
    assert "odd.pt cannot be read" in told and "expected tokenizer.json or vocab.json with merges.txt" in told
    vocab = json.loads((golden(f"{FOLDER}/gpt2") / "vocab.json").read_text("utf-8"))
    (tmp_path / "vocab.json").write_text(json.dumps(vocab | {"another": len(vocab)}), "utf-8")
    (tmp_path / "merges.txt").write_text("", "utf-8")
    other = "--part", f"checkpoint={checkpoint(tag)}", "--part", f"tokenizer={tmp_path}"
    expected = f"--part tokenizer: expected {len(vocab)} ids, the checkpoint's vocabulary, got {len(vocab) + 1}"
    assert expected in refused(tmp_path, *other)


def test_missing_parts_are_told_together(tmp_path: Path) -> None:
    told = refused(tmp_path, "--base", "sd", "--steps", 5)
    assert "--base: this system is made of parts alone; leave it out" in told
    assert "--part checkpoint: expected DDCap's checkpoint" in told and "--part tokenizer: expected the folder" in told
    assert "--steps: this system is sampled as its own checkpoint says; leave it out" in told


@pytest.fixture(scope="module")
def any_captioner() -> Pipeline:
    """Of random weights."""
    return load(tiny("ddcap"), BACKEND, threads=1)


GREY = np.full((40, 30), 90, np.uint8)


@pytest.mark.parametrize("length", range(1, DDCAP_SIZES["tiny"].tokens + 1))
def test_as_many_tokens_as_asked_for(any_captioner: Pipeline, length: int) -> None:
    """In a call each, or in all timesteps where there are more."""
    sizes, lengths = DDCAP_SIZES["tiny"], []
    output = any_captioner(
        image=GREY, length=length, on_step=lambda step: lengths.append((step.tokens < sizes.vocab).sum())
    )
    assert len(lengths) == min(length, sizes.steps) and lengths == sorted(set(lengths)) and lengths[-1] == length
    assert (output.tokens[0, length:] == sizes.mask_id).all() and isinstance(output.texts[0], str)


def test_previews_are_whole_captions(any_captioner: Pipeline) -> None:
    walk = any_captioner.steps(image=GREY, length=5)
    previews = [step.preview() for step in walk]
    assert len(previews) == 5 and previews[-1] == any_captioner(image=GREY, length=5).texts


def test_two_of_one_picture_are_the_same(any_captioner: Pipeline) -> None:
    one, other = any_captioner(image=GREY, count=2).texts
    assert one == other == any_captioner(image=GREY, seed=4).texts[0]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"prompt": "a dog"}, "prompt: this bundle reads no text; leave it out"),
        ({"language": "German"}, "language: this bundle (ddcap) takes none, got 'German'; leave it out"),
        ({"steps": 3}, "steps: the caption's length decides; leave it out"),
        (
            {"length": 99},
            "length: expected a whole number of tokens from 1 to 11, got 99; leave it out and the picture",
        ),
        ({"image": None}, "image: expected one picture, which is described, got none; give one"),
        ({"image": [GREY, GREY]}, "image: expected one picture, which is described, got 2; give one"),
        ({"size": (8, 8)}, "size: this bundle draws no picture, got (8, 8); leave it out"),
        ({"sampler": "ddim"}, "sampler: this bundle draws tokens, and takes none; leave it out"),
        ({"strength": 0.5}, "strength: this bundle takes none; leave it out"),
    ],
)
def test_what_a_captioner_does_not_take_is_refused(any_captioner: Pipeline, options: dict, line: str) -> None:
    with pytest.raises(InputError) as caught:
        any_captioner(**{"image": GREY} | options)
    assert len(caught.value.problems) == 1 and caught.value.problems[0].startswith(line)


def test_a_tokenizer_that_is_no_file_of_the_bundle_is_told(any_captioner: Pipeline) -> None:
    manifest = any_captioner.bundle.manifest
    files = {name: file for name, file in manifest.files.items() if name != "detokenizer.json"}
    told = replace(manifest, files=files).problems()
    assert not manifest.problems() and told == ["manifest: detokenizer.json is used but has no digest under 'files'"]


def test_the_full_size_is_the_authors() -> None:
    """The shapes that the paper's checkpoint has, save for what is not read."""
    shapes = {name: tuple(value.shape) for name, value in build_module(whole, "ddcap").state_dict().items()}
    assert shapes["gpt.transformer.wte.weight"] == (50257, 768) and shapes["pad_embedding"] == (196, 768)
    assert shapes["gpt.transformer.h.11.mlp.c_fc.weight"] == (768, 3072)
    assert shapes["gpt.transformer.h.11.ln_cross_attn.linear.weight"] == (1536, 768)
    assert shapes["clip_model.visual.conv1.weight"] == (768, 3, 16, 16)
    assert shapes["clip_model.visual.transformer.resblocks.11.attn.in_proj_weight"] == (2304, 768)
    assert shapes["clip_model.visual.proj"] == (768, 512) and shapes["len_head.model.2.weight"] == (20, 384)
    assert shapes["clip_project.model.0.weight"] == (384, 768) and shapes["clip_project.model.2.weight"] == (768, 384)


def whole() -> Ddcap:
    with torch.device("meta"):
        return Ddcap(DDCAP_SIZES["ddcap"])


@pytest.mark.parametrize("name", ["a.png", "a.wav", "a.npy", "a"])
def test_a_caption_is_written_as_a_text_alone(any_captioner: Pipeline, tmp_path: Path, name: str) -> None:
    Image.fromarray(GREY).save(tmp_path / "photo.png")
    words = ("run", any_captioner.bundle.folder, "--image", tmp_path / "photo.png", "--backend", BACKEND)
    result = run(*words, "--out", tmp_path / name)
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert f"{name}: expected a name such as a.txt for text, which this run gives, got" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_a_profile_finds_no_adapter(any_captioner: Pipeline) -> None:
    """Nothing here stands on another model: the picture's encoder is the captioner's own."""
    plan = any_captioner.bundle.manifest.plan
    assert plain_graphs(plan) == {"image_encoder", "projection", "transformer"}
    span = Span("image_encoder", 0.0, 1.0)
    (stage,) = stages_of(any_captioner.bundle, [[span]], [], {})
    assert (stage.kind, stage.adapter) == ("encode", False)
