"""UniD3 from its authors' files to pictures and captions: graphs, every draw of every run, what is decoded of it; and
what is refused."""

import json
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from x2i.export.errors import PlanError
from x2i.export.exporter import export_bundle
from x2i.export.plan import ExportPlan
from x2i.models.clip.caption_tokenizer import CAPTION_EXTRAS, UNKNOWN
from x2i.models.errors import CheckpointError
from x2i.models.random.joint_models import JOINT_SIZES
from x2i.runtime.cli import main
from x2i.runtime.errors import InputError
from x2i.runtime.load import load
from x2i.runtime.media.detokenizer import Detokenizer
from x2i.runtime.media.tokenizer import Tokenizer
from x2i.runtime.output import to_images
from x2i.runtime.pipeline import Pipeline
from x2i.runtime.token_samplers.joint.process import UNKNOWN_WORD
from x2i.runtime.token_samplers.log_probabilities import log_softmax, truncated

from tests.bundles import tiny
from tests.goldens import found, golden, golden_arrays
from tests.made_once import made_once
from tests.models.token_transformers import unid3_goldens as goldens
from tests.numerics import assert_close, assert_same_picture
from tests.runtime.token_samplers.unid3_runs import Arrays, JointRun, as_read, joint_runs, token_run

MERGES = "vq_diffusion/bpe_tiny.txt.gz"
RUNS = joint_runs() if found("unid3/cases.json") else []
ALL_RUNS = pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)


def golden_plan(out: Path, **parts: Path) -> ExportPlan:
    """From the files as a user would name them."""
    given = {
        "checkpoint": goldens.checkpoint_file(),
        "config": goldens.options_file(),
        "codec": goldens.codec_file(),
        "codes": goldens.code_map_file(),
        "tokenizer": golden(MERGES),
    }
    return ExportPlan("unid3", out, parts=given | parts)


@cache
def pipeline() -> Pipeline:
    reads = [golden("unid3/checkpoint"), golden(MERGES)]
    return load(made_once("golden-unid3", lambda out: export_bundle(golden_plan(out)), reads), "cpu", threads=1)


def process() -> Any:
    return pipeline().bundle.manifest.plan.process


def said(state: np.ndarray, timestep: np.ndarray | int, draws_text: bool) -> Arrays:
    """What the exported network says."""
    rows = np.ones(len(state), bool)
    return pipeline().session("transformer")(
        tokens=state, timestep=rows * np.int64(timestep), draws_image=rows, draws_text=rows & draws_text
    )


def test_the_network_is_the_authors_in_each_direction() -> None:
    arrays = golden_arrays("unid3/transformer.npz")
    compared = 0
    for direction, (draws_image, draws_text) in goldens.DIRECTIONS.items():
        rows = np.ones(len(arrays["ids"]), bool)
        flags = {"draws_image": rows & draws_image, "draws_text": rows & draws_text}
        for call, t in enumerate(arrays["t"]):
            made = pipeline().session("transformer")(tokens=arrays["ids"], timestep=rows * t, **flags)
            for output, name in (("image_logits", "logits_img"), ("text_logits", "logits_txt")):
                if (expected := arrays.get(f"{direction}_{name}")) is not None:
                    assert_close(made[output], expected[call], "unid3-logits")
                    compared += 1
    assert compared == sum("_logits_" in name for name in arrays) * len(arrays["t"])


def test_pictures_are_decoded_and_rounded_as_the_authors_do() -> None:
    arrays = golden_arrays("unid3/codec.npz")
    made = pipeline().session("decoder")(tokens=arrays["tokens"])["image"]
    assert_close((made + 1) / 2, arrays["decoded_float01"], "unid3-picture")
    (tail,) = (tail for tail in process().tails if tail.kind == "picture")
    pictures = np.stack([np.asarray(image) for image in to_images(made, tail.to_uint8)])
    assert_same_picture(pictures, arrays["decoded_u8"])
    with pytest.raises(AssertionError, match="of the values differ"):
        assert_same_picture(
            np.stack([np.asarray(image) for image in to_images(made, "truncate")]), arrays["decoded_u8"]
        )


def test_pictures_are_encoded_as_the_authors_do() -> None:
    arrays = golden_arrays("unid3/codec.npz")
    pixels = (arrays["image_u8_nhwc"].astype(np.float32) / 255 * 2 - 1).transpose(0, 3, 1, 2)
    noise = arrays["encode_exp_noise"].reshape(*arrays["encode_exp_noise"].shape[:2], -1).swapaxes(1, 2)
    encoder = pipeline().session("image_tokens")
    both = [encoder(pixels=np.ascontiguousarray(pixels), exponential=np.ascontiguousarray(noise))["tokens"]]
    assert_close(both[0], arrays["encoded_tokens"], "exact")
    # A pipeline does the same with one picture, and with the draws that are called `code`.
    for picture, draws, tokens in zip(arrays["image_u8_nhwc"], noise, arrays["encoded_tokens"], strict=True):
        seen = pipeline().steps(image=picture, noise={"code": draws[None, None]} | any_draws())
        assert_close(next(iter(seen)).tokens[:, : len(tokens)], tokens[None], "exact")


def any_draws() -> Arrays:
    """Enough for the captions of one run."""
    sampler, random = process().sampler, np.random.default_rng(6)
    part = sampler.parts["text"]
    return {"text": random.random((sampler.steps, 1, part.length, part.mask + 1), np.float32)}


@ALL_RUNS
def test_every_draw_of_every_run_is_the_authors(run: JointRun) -> None:
    """Through the exported graph: the states read, the draws of each call before what is given is put back, and what
    the last state is decoded to."""
    sampler, arrays, read = process().sampler, run.arrays, []
    slots = run.slots(sampler.text_classes)
    predict = as_read(lambda state, t: said(state, t, bool(slots["draws_text"][0])), read)
    count, length = arrays["x_in"].shape[1:]
    noise = run.noise(sampler.image_length)
    states = [step.tokens for step in sampler.walk(token_run(predict, noise, count, length, run.values, slots))]
    assert_close(np.stack(read), arrays["x_in"], "exact")
    expected = run.last_state(sampler.image_classes)
    assert_close(states[-1][:, : expected.shape[1]], expected, "exact")
    assert_drawn(run, noise)
    assert_decoded(states[-1], arrays)


def assert_drawn(run: JointRun, noise: Arrays) -> None:
    """Each draw of a run from the state before it, whether or not it counts."""
    sampler, arrays = process().sampler, run.arrays
    for call, (t, state) in enumerate(zip(arrays["network_t"], arrays["x_in"].astype(np.int64), strict=True)):
        logits = said(state, int(t), run.network != "txt")
        drawn = []
        for name in noise:
            part = sampler.parts[name]
            log_x0 = truncated(log_softmax(logits[f"{name}_logits"]), run.case["truncation"])
            if run.values["loop"] == "renoise":
                earlier = part.renoised(log_x0, int(t))
            else:
                earlier = part.posterior(log_x0, state, int(arrays["posterior_t"][call]), run.network == "txt")
            drawn.append(part.draw(earlier, state, noise[name][call]))
        assert_close(np.concatenate(drawn, axis=1), arrays["draw_tokens"][run.counted[call]], "exact")


def assert_decoded(state: np.ndarray, arrays: Arrays) -> None:
    picture, text = process().tails
    images = picture.decode(picture.span.of(state), pipeline().session, pipeline().bundle.checked).images
    assert_same_picture(np.stack([np.asarray(image) for image in images]), arrays["image_u8"])
    if "final_text_ids" in arrays:
        ids = text.span.of(state)
        assert_close(ids, arrays["final_text_ids"], "exact")
        texts = text.decode(ids, pipeline().session, pipeline().bundle.checked).texts
        assert texts == [written(row) for row in arrays["final_text_ids"]]


def written(ids: np.ndarray) -> str:
    """A caption by the authors' rules, for ids of single bytes that are letters by themselves."""
    letters = [chr(number) for number in range(33, 127)]
    known = [int(number) for number in ids if number not in CAPTION_EXTRAS]
    return "".join(letters[number] if number < process().sampler.text_classes else UNKNOWN for number in known).strip()


def spelled(ids: np.ndarray) -> str | None:
    """A prompt of these ids, where there is one: each is a byte's, and the last of a word, which ends it, has none."""
    unknown = process().sampler.text_classes
    words = [
        UNKNOWN_WORD * len(run) if lacks else "".join(chr(33 + number) for number in run) + "!"
        for lacks, run in ((lacks, list(run)) for lacks, run in groupby(ids.tolist(), lambda number: number == unknown))
    ]
    read = process_text()
    tokens = Tokenizer(pipeline().bundle.checked(read.tokenizer), read.window, read.pad_id, read.cleans)
    prompt = "".join(words)
    return prompt if tokens([prompt]).input_ids[0].tolist() == ids.tolist() else None


def process_text() -> Any:
    return next(c.text for c in pipeline().bundle.manifest.plan.conditioners if c.text is not None)


def asked(run: JointRun, row: int) -> dict[str, Any] | None:
    """What a caller gives for one row of a run; None where no prompt has its ids."""
    sampler = process().sampler
    slots = {name: array[row % len(array)] for name, array in run.slots(sampler.text_classes).items()}
    options: dict[str, Any] = {name: value for name, value in run.values.items() if value}
    options["noise"] = {name: draws[:, row : row + 1] for name, draws in run.noise(sampler.image_length).items()}
    side = round(sampler.image_length**0.5)
    if "start_tokens" in slots:
        options["tokens"] = slots["start_tokens"].reshape(side, side)
    if "known" in slots and not slots["known"].all():
        white = np.kron(~slots["known"].reshape(side, side), np.ones([process().factor] * 2, bool))
        options["mask"] = np.where(white, 255, 0).astype(np.uint8)
    if "input_ids" in slots and (slots["input_ids"] < sampler.text_classes).any():
        options["prompt"] = spelled(slots["input_ids"])
    return None if options.get("prompt", "") is None else options


@ALL_RUNS
def test_a_call_draws_the_authors_picture_and_caption(run: JointRun) -> None:
    """Row by row, whatever is drawn beside it."""
    arrays = run.arrays
    for row in range(arrays["x_in"].shape[1]):
        options = asked(run, row)
        if options is None:
            pytest.skip("no prompt has its ids, which are of a vocabulary of a few bytes")
        words = (options.pop("prompt"),) if "prompt" in options else ()
        output = pipeline()(*words, **options)
        expected = run.last_state(process().sampler.image_classes)[row : row + 1]
        assert_close(output.tokens[:, : expected.shape[1]], expected, "exact")
        assert_same_picture(np.asarray(output.images[0]), arrays["image_u8"][row])
        if "final_text_ids" in arrays:
            assert output.texts == [written(arrays["final_text_ids"][row])]


def test_the_network_of_captions_would_draw_other_captions() -> None:
    """Captions of pictures come from the network of pairs."""
    seen = 0
    for run in (run for run in RUNS if "image_tokens" in run.arrays):
        arrays, sampler = run.arrays, process().sampler
        part, noise = sampler.parts["text"], run.noise(sampler.image_length)["text"]
        for call, (t, state) in enumerate(zip(arrays["network_t"], arrays["x_in"].astype(np.int64), strict=True)):
            rows = np.ones(len(state), bool)
            logits = pipeline().session("transformer")(
                tokens=state, timestep=rows * t, draws_image=~rows, draws_text=rows
            )["text_logits"]
            earlier = part.posterior(truncated(log_softmax(logits), run.case["truncation"]), state, int(t))
            expected = arrays["draw_tokens"][run.counted[call]][:, part.places]
            seen += int((part.draw(earlier, state, noise[call]) != expected).sum())
    assert seen or not RUNS


def test_the_words_for_what_is_unknown_are_one() -> None:
    assert UNKNOWN == UNKNOWN_WORD


def test_texts_are_written_by_the_bundles_tokenizer() -> None:
    extra = json.loads(golden("unid3/tokenization.json").read_text("utf-8"))["decode_extra"]
    # Of the golden's pieces those that the bundle's smaller vocabulary has.
    most = process().sampler.text_classes
    ids = [number for number in extra["ids"] if number < most]
    text = Detokenizer(pipeline().bundle.checked(process_text().tokenizer), CAPTION_EXTRAS, UNKNOWN)(ids)
    assert text == written(np.array(ids))


def refused(tmp_path: Path, **parts: Path) -> str:
    with pytest.raises((PlanError, CheckpointError)) as error:
        export_bundle(golden_plan(tmp_path / "out", **parts))
    assert not list(tmp_path.glob("out*"))
    return str(error.value)


def test_parts_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    codecs = sorted(golden("vq_diffusion").glob("*/OUTPUT/pretrained_model/taming_dvae/*.pth"))
    assert codecs
    for codec in codecs:
        told = refused(tmp_path, codec=codec)
        assert "classes of the transformer" in told or "expected the map of a codec" in told
    config = json.loads(goldens.options_file().read_text("utf-8")) | {"transformer_depth": 1}
    (tmp_path / "args.json").write_text(json.dumps(config), "utf-8")
    assert "unexpected model._denoise_fn.transformer.blocks.1." in refused(tmp_path, config=tmp_path / "args.json")
    (tmp_path / "merges.txt").write_text("a b\n", "utf-8")
    assert "expected CLIP's merges" in refused(tmp_path, tokenizer=tmp_path / "merges.txt")


def test_a_checkpoint_of_another_schedule_is_refused(tmp_path: Path) -> None:
    content = torch.load(goldens.checkpoint_file(), weights_only=True)
    content["state_dict"]["model.log_cumprod_bt_txt"][3] += 0.1
    torch.save(content, tmp_path / "other.pth")
    assert "got another log_cumprod_bt_txt" in refused(tmp_path, checkpoint=tmp_path / "other.pth")


@pytest.fixture(scope="module")
def any_bundle() -> Pipeline:
    """Of random weights."""
    return load(tiny("unid3"), "cpu", threads=1)


SIZES = JOINT_SIZES["tiny"].transformer
GREY = np.full((20, 20, 3), 90, np.uint8)
LEFT = np.where(np.arange(20)[None, :, None] < 8, 255, 0).astype(np.uint8).repeat(20, axis=0).repeat(3, axis=2)


def test_three_directions_and_what_lacks(any_bundle: Pipeline) -> None:
    pictures = [any_bundle("a red", seed=3), any_bundle("a red", image=GREY, mask=LEFT, seed=3)]
    assert [one.texts for one in pictures] == [["a red"]] * 2
    captions = [any_bundle(image=GREY, seed=3), any_bundle("a <mask><mask> b", image=GREY, seed=3)]
    tokens = [one.tokens[0, : SIZES.image_length] for one in captions]
    assert (tokens[0] == tokens[1]).all() and tokens[0].max() < SIZES.image_classes
    assert captions[1].texts[0].startswith("a ") and captions[1].texts != captions[0].texts
    kept = ~LEFT[::4, ::4, 0].astype(bool).reshape(-1)
    assert (pictures[1].tokens[0, : SIZES.image_length] == tokens[0])[kept].all()
    both = any_bundle(seed=3, count=2)
    assert len(both.images) == len(both.texts) == 2 and both.images[0].size == (20, 20)
    assert any_bundle(seed=4).tokens.tolist() == both.tokens[1:].tolist()


def test_previews_are_pictures(any_bundle: Pipeline) -> None:
    steps = list(any_bundle.steps(fast=3, loop="chain", seed=1))
    assert [step.count for step in steps] == [4] * 4 and len(steps) == 4
    assert steps[0].preview()[0].size == (20, 20)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"prompt": "red", "image": GREY}, "prompt: expected something to draw, got the whole caption and the whole"),
        ({"prompt": "red", "loop": "chain"}, "loop: is for pictures and captions drawn together; leave it out"),
        ({"mask": LEFT}, "mask: expected a picture to complete, got none; give image, or leave the mask out"),
        ({"guidance": 3.0}, "guidance: expected 1, as this system has no other, got 3; leave it out"),
        ({"size": (40, 40)}, "size: expected 20x20, the only size of this bundle, got (40, 40); leave it out"),
        ({"steps": 5}, "steps: expected a number that some stride makes, such as 4, got 5"),
        ({"fast": 13}, "fast: expected at most the 12 timesteps of this bundle, got 13"),
        ({"noise": {"image": np.zeros((1, 1, 2, 2), np.float32)}}, "noise: expected draws 'image' of shape"),
    ],
)
def test_what_cannot_be_drawn_is_told(any_bundle: Pipeline, options: dict[str, Any], line: str) -> None:
    words = (options["prompt"],) if "prompt" in options else ()
    with pytest.raises(InputError) as error:
        any_bundle(*words, **{name: value for name, value in options.items() if name != "prompt"})
    assert str(error.value).startswith(line)


def test_a_run_saves_the_picture_and_prints_the_caption(any_bundle: Pipeline, tmp_path: Path) -> None:
    target = tmp_path / "drawn.png"
    words = ["run", str(any_bundle.bundle.folder), "--out", str(target), "--fast", "4", "--backend", "cpu", "--json"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert target.exists() and json.loads(result.stdout)["texts"] == any_bundle(fast=4).texts


def ran(bundle: Pipeline, *words: object) -> Result:
    fixed = ("--fast", "4", "--backend", "cpu", "--threads", "1")
    return CliRunner().invoke(main, [str(word) for word in ("run", bundle.bundle.folder, *words, *fixed)])


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a picture and a mask."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(GREY).save("photo.png")
    Image.fromarray(LEFT).save("mask.png")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "written", "told"),
    [
        (("--image", "photo.png"), [], True),
        (("--image", "photo.png", "--out", "a.txt"), ["a.txt"], True),
        (("a red",), ["out.png"], False),
        (("a <mask> red",), ["out.png"], True),
        (("a red", "--image", "photo.png", "--mask", "mask.png"), ["out.png"], False),
        (("--image", "photo.png", "--mask", "mask.png"), ["out.png"], True),
        (("--out", "a.txt"), ["a.txt"], True),
    ],
)
def test_a_run_writes_what_its_direction_gives(
    any_bundle: Pipeline, work: Path, words: tuple[str, ...], written: list[str], told: bool
) -> None:
    result = ran(any_bundle, *words, "--json")
    assert result.exit_code == 0, result.output
    assert [path.name for path in work.iterdir() if path.name not in ("photo.png", "mask.png")] == written
    assert ("texts" in json.loads(result.stdout)) == told


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--image", "photo.png", "--out", "a.png"), "a.png: expected a name such as a.txt for text, which this run"),
        (("a red", "--out", "a.txt"), "a.txt: expected a picture name such as a.png"),
        (("a red", "--out", "a.wav"), "a.wav: expected a picture name such as a.png"),
    ],
)
def test_a_name_of_what_the_direction_does_not_give_is_refused(
    any_bundle: Pipeline, work: Path, words: tuple[str, ...], line: str
) -> None:
    result = ran(any_bundle, *words)
    assert result.exit_code == 2 and result.stderr.startswith(f"x2i: error: {line}")
    assert result.stderr.count("\n") == 1 and sorted(path.name for path in work.iterdir()) == ["mask.png", "photo.png"]


def test_the_encoder_of_pictures_is_opened_for_a_picture() -> None:
    bundle = tiny("unid3")
    pipeline = load(bundle, "cpu", threads=1)
    graphs = pipeline.bundle.manifest.plan.needed_graphs()
    assert "image_tokens" not in graphs and pipeline._sessions.open == set(graphs)
    pipeline("a red", fast=4)
    assert "image_tokens" not in pipeline._sessions.open
    pipeline(image=GREY, fast=4)
    assert "image_tokens" in pipeline._sessions.open


def test_a_limit_counts_the_encoder_of_pictures_for_a_picture() -> None:
    """What a run does not call needs no memory."""
    pipeline = load(tiny("unid3"), "cpu", threads=1, max_memory="2GB")
    counted: list[tuple[str, ...]] = []
    pipeline._limit.first_that_fits = lambda runs, graphs: counted.append(tuple(graphs)) or runs[0]
    pipeline("a red", fast=4)
    pipeline(image=GREY, fast=4)
    assert ["image_tokens" in graphs for graphs in counted] == [False, True]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"prompt": {1, 2}}, "prompt: expected text in Unicode"),
        ({"image": GREY, "seed": np.array([{}, None], object)}, "seed: expected a whole number"),
        ({"image": GREY, "size": (np.ones(2), 8000)}, "size: what is begun with is drawn at 20x20, got"),
        ({"size": (np.ones(2), 8000)}, "size: expected 20x20, the only size of this bundle, got"),
    ],
)
def test_values_of_other_types_are_told(any_bundle: Pipeline, options: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError) as error:
        any_bundle(**options)
    assert any(problem.startswith(line) for problem in error.value.problems)
