"""Drawn again from what a picture carries: the same pixels, for every kind of process; and what must be given too."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from x2i.runtime import load
from x2i.runtime.bundle.preset import Preset
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.cli import main
from x2i.runtime.errors import InputError
from x2i.runtime.inputs.registry import run_options
from x2i.runtime.media.picture_files import read_parameters, read_texts
from x2i.runtime.processes.latents import SamplerChoice
from x2i.runtime.redraw.again import backend_note, drawn_again
from x2i.runtime.samplers.settings import SamplerSettings

from tests.bundles import tiny
from tests.numerics import assert_close
from tests.runtime.toy import edit_manifest, plan, toy_pipeline, with_process

RANDOM = np.random.default_rng(11)
PICTURE = RANDOM.integers(0, 256, (44, 36, 3), np.uint8)
MASK = np.zeros((44, 36), np.uint8)
MASK[10:40, 5:30] = 255
SQUARE = np.full((20, 20, 3), 90, np.uint8)
HALF = np.where(np.arange(20)[None, :] < 8, 255, 0).astype(np.uint8).repeat(20, axis=0)
NOISE = RANDOM.standard_normal((3, 4, 3, 2)).astype(np.float32)
SPOKEN = {"language": "French", "steps": 4, "size": (24, 16)}
CASES = {
    "several": ("gluegen-text", "a red apple", {**SPOKEN, "count": 3, "seed": 5, "negative": "blue"}),
    "ddim with eta": ("gluegen-text", "a cat", {**SPOKEN, "sampler": "ddim", "eta": 0.5, "count": 2}),
    "ancestral": ("gluegen-text", "a cat", {**SPOKEN, "sampler": "euler_a", "count": 2, "sigmas": None}),
    "stochastic": ("gluegen-text", "a cat", {**SPOKEN, "sampler": "dpmpp_2m_sde", "sigmas": "karras", "count": 2}),
    "recorded noise": ("gluegen-text", "a cat", {"language": "French", "steps": 2, "noise": NOISE, "sampler": "lcm"}),
    "one noise": ("gluegen-text", "a cat", {"language": "French", "steps": 2, "noise": NOISE[:1], "guidance": 1}),
    "subject": (
        "elite",
        "a S",
        {"subject": PICTURE, "mask": MASK, "steps": 2, "count": 2, "strength": 0.3},
    ),
    "reference": ("ip-adapter", "a cat", {"image": [PICTURE, PICTURE[:30]], "steps": 2, "count": 2}),
    "marked": ("fastcomposer", "a man<|image|> runs", {"subjects": [PICTURE], "steps": 4, "alpha": 0.5, "count": 2}),
    "started": ("gluegen-text", "a cat", {**SPOKEN, "start": PICTURE, "start_strength": 0.6, "count": 2}),
    "filled": (
        "elite",
        "a S",
        {"subject": PICTURE, "start": PICTURE[:40, :32], "inpaint": MASK[:40, :32], "steps": 3, "count": 2},
    ),
    "sound": ("gluegen-sound", None, {"sound": (np.sin(np.arange(9000) / 7), 8000), "steps": 2, "count": 2}),
    "tokens": ("vq-diffusion", "a cat", {"count": 2, "seed": 4, "truncation": 0.8}),
    "fast": ("vq-diffusion", "a cat", {"fast": 3, "count": 2, "guidance": 2.0}),
    "masked decoding": ("muse", "a cat", {"steps": 3, "count": 3, "temperature": [2.0, 0.5], "aesthetic": 5}),
    "redrawn": ("muse", "a cat", {"image": PICTURE, "steps": 4, "strength": 0.6, "count": 2}),
    "completed": ("muse", "a cat", {"image": PICTURE, "mask": MASK, "steps": 3, "count": 2}),
    "joint": ("unid3", None, {"count": 2, "seed": 3, "fast": 3, "loop": "chain"}),
    "joint, completed": ("unid3", "a red", {"image": SQUARE, "mask": HALF}),
    "multinomial": ("vq-ddm", None, {"count": 2, "seed": 9}),
}


def drawn_twice(pipeline, prompt, options, tmp_path, notes=()):
    """The pictures of a run, each saved, read and drawn again alone; both are compared."""
    output = pipeline(prompt, **options)
    assert len(output.parameters) == len(output.images) > 0
    files = {name: value for name, value in options.items() if run_options()[name].is_file}
    for image, path in zip(output.images, output.save(tmp_path / "a.png"), strict=True):
        again = drawn_again(read_parameters(path), pipeline.bundle, None, None, files)
        assert again.notes == tuple(notes) and again.prompt == prompt and again.options.get("count", 1) == 1
        (drawn,) = pipeline(again.prompt, **again.options).images
        assert_close(np.asarray(drawn), np.asarray(image), "exact")
    return output


@pytest.mark.parametrize(("system", "prompt", "options"), CASES.values(), ids=CASES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_each_picture_of_a_run_is_drawn_again(system, prompt, options, tmp_path):
    drawn_twice(load(tiny(system), "cpu", threads=1), prompt, options, tmp_path)


def test_starts_of_their_own_are_cut_out_again(tmp_path):
    pipeline = load(tiny("vq-diffusion"), "cpu", threads=1)
    process = pipeline.bundle.manifest.plan.tokens
    starts = np.random.default_rng(3).integers(0, process.sampler.classes, (2, *process.grid))
    output = drawn_twice(pipeline, "a cat", {"tokens": starts, "strength": 0.5, "count": 2}, tmp_path)
    own = [record.files["tokens"][0] for record in output.parameters]
    assert [file.share for file in own] == [0, 1] and own[0].sha256 != own[1].sha256
    alone = drawn_again(output.parameters[1], pipeline.bundle, None, None, {"tokens": starts[1:]})
    assert not alone.notes and alone.options["tokens"].shape == starts[1:].shape
    other = drawn_again(output.parameters[1], pipeline.bundle, None, None, {"tokens": starts[:1]})
    assert "tokens: expected what the picture was drawn from" in other.notes[0]


def test_recorded_draws_are_cut_out_again(tmp_path):
    pipeline = load(tiny("vq-ddm"), "cpu", threads=1)
    process = pipeline.bundle.manifest.plan.tokens
    shape, random = (2, process.length, process.sampler.classes), np.random.default_rng(3)
    noise = {
        "start": random.random((1, *shape), np.float32),
        "draw": random.random((process.steps, *shape), np.float32),
    }
    drawn_twice(pipeline, None, {"noise": noise}, tmp_path)


def test_where_a_picture_depends_on_the_others_it_is_said():
    unid3, muse = (load(tiny(system), "cpu", threads=1) for system in ("unid3", "muse"))
    first, second = unid3("a red", image=SQUARE, mask=HALF, count=2, seed=3).parameters
    assert not first.missing and second.missing == (
        "seed: the start's codes were drawn from the run's, 3, and the rest of this picture from 4",
    )
    process = muse.bundle.manifest.plan.tokens
    starts = np.random.default_rng(3).integers(0, process.sampler.classes, (2, *process.grid))
    height, width = process.canvas.size
    mask = np.zeros((height, width), np.uint8)
    mask[: height // 2] = 255
    for record in muse("a cat", tokens=starts, mask=mask, count=2, steps=2).parameters:
        assert record.missing == (
            "tokens: how many were masked again was decided for all pictures of the run together",
        )
    last = muse("a cat", seed=2**63 - 1, count=2, steps=2).parameters
    assert last[0].options.values["seed"] == 2**63 - 1 and "seed" not in last[1].options.values
    assert last[1].missing == (f"seed: {2**63} is beyond {2**63 - 1}, up to which a run takes one",)


@pytest.mark.filterwarnings("ignore:sound")
def test_a_second_bundle_must_be_given_again(sound_bundle, tiny_bundle, tmp_path):
    sound = np.sin(np.arange(9000) / 7), 8000
    pipeline = load(sound_bundle, "cpu", threads=1, text_bundle=tiny_bundle)
    output = pipeline("a cat", sound=sound, language="French", steps=2, mix=3)
    (record,) = output.parameters
    assert record.text_bundle is not None and record.text_bundle.system == "gluegen-text"
    with pytest.raises(
        InputError, match=r"text bundle \(--text-bundle\): expected .*, which read the prompt, got none"
    ):
        drawn_again(record, pipeline.bundle, None, None, {"sound": sound})
    text = open_bundle(tiny_bundle)
    again = drawn_again(record, pipeline.bundle, text, None, {"sound": sound})
    assert not again.notes
    assert_close(np.asarray(pipeline(again.prompt, **again.options).images[0]), np.asarray(output.images[0]), "exact")
    (other,) = drawn_again(record, pipeline.bundle, replace(text, sha256=None), None, {"sound": sound}).notes
    assert other.startswith("text bundle: the picture was drawn with")


def toy(folder, name="plms", **changes):
    """One network whose plan has another sampler, or a preset."""
    asked = with_process(plan(), sampler=SamplerChoice(name, changes.pop("steps", 5), {}, SamplerSettings(**changes)))
    return toy_pipeline(
        folder, plan=replace(asked, presets={"few": Preset(sampler="euler", steps=3, guidance_interval=(700, 100))})
    )[0]


@pytest.mark.parametrize("name", ["ddim", "euler", "dpmpp_2m_karras"])
def test_a_plan_that_changed_draws_the_same(name, tmp_path):
    """What was its default when the picture was drawn holds."""
    first = toy(tmp_path / "first", name, timestep_spacing="trailing", steps=4)
    later = toy(tmp_path / "later", "lms", steps=7)
    for options in ({}, {"preset": "few"}, {"sampler": "ddim", "eta": 0.3}):
        output = first("pomme", language="French", seed=3, **options)
        (note,) = (again := drawn_again(output.parameters[0], later.bundle, None, None, {})).notes
        assert note.startswith("bundle: the picture was drawn with first of the manifest")
        (drawn,) = later(again.prompt, **again.options).images
        assert_close(np.asarray(drawn), np.asarray(output.images[0]), "exact")


def test_what_is_given_takes_the_place_of_what_was(tmp_path):
    pipeline = toy(tmp_path / "toy")
    (record,) = pipeline("pomme", language="French", seed=3, count=1).parameters

    def asked(given=(), named=(), prompt=None, of=record):
        return drawn_again(of, pipeline.bundle, None, prompt, dict(given), named)

    assert asked().options == {**record.values, "sampler": "plms"}
    assert asked(prompt="red").prompt == "red" and asked({"seed": 7}).options["seed"] == 7
    assert "seed" not in asked(named={"seed"}).options
    preset = asked({"preset": "few"}).options
    assert preset["preset"] == "few" and not {"sampler", "steps"} & preset.keys()
    assert "size" not in asked({"noise": NOISE}).options
    (drawn,) = pipeline("pomme", language="French", sampler="ddim", eta=0.3, steps=4).parameters
    assert asked({"sampler": "euler"}, of=drawn).options["eta"] == 0.3, "the caller's own"
    (drawn,) = toy(tmp_path / "other", "ddim", eta=0.3)("pomme", language="French").parameters
    assert "eta" not in asked({"sampler": "euler"}, of=drawn).options, "the plan's"


def test_a_walk_that_was_left_or_led_says_nothing(tmp_path):
    pipeline = toy(tmp_path / "toy")
    walk = pipeline.steps("pomme", language="French")
    assert walk.finish(next(walk)).parameters == ()
    muse = load(tiny("muse"), "cpu", threads=1)
    walk = muse.steps("a cat", steps=2)
    walk.send(None)
    last = walk.send(np.zeros_like(muse("a cat", steps=2).tokens))
    assert walk.finish(last).parameters == ()


def test_another_backend_may_draw_other_bits(tmp_path):
    (record,) = toy(tmp_path / "toy")("pomme", language="French").parameters
    assert backend_note(record, "cpu") == [] and "on openvino it may differ" in backend_note(record, "openvino")[0]


def x2i(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def apple(tiny_bundle, tmp_path):
    """A picture from the command line, the second of two."""
    options = ("--language", "French", "--steps", 2, "--size", "16x24", "--count", 2, "--seed", 6)
    result = x2i("run", tiny_bundle, "a red apple", *options, "--out", tmp_path / "apple.png")
    assert result.exit_code == 0, result.output
    return tmp_path / "apple-2.png"


def pixels(path):
    return np.asarray(Image.open(path))


def test_the_command_draws_again(apple, tiny_bundle, tmp_path):
    out = tmp_path / "again.png"
    result = x2i("run", tiny_bundle, "--again", apple, "--out", out, "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["warnings"] == [], result.output
    assert_close(pixels(out), pixels(apple), "exact")
    assert x2i("run", tiny_bundle, "--again", apple, "--out", out, "--seed", 0, "--no-parameters").exit_code == 0
    assert (pixels(out) != pixels(apple)).any() and read_texts(out).json is read_texts(out).text is None
    plain = ("--language", "French", "--steps", 2, "--size", "16x24", "--out", tmp_path / "plain.png")
    assert x2i("run", tiny_bundle, "a red apple", *plain).exit_code == 0
    assert_close(pixels(out), pixels(tmp_path / "plain.png"), "exact")


def test_the_command_tells_another_bundle(apple, tiny_bundle, elite_bundle, tmp_path):
    shutil.copytree(tiny_bundle, tmp_path / "other")
    edit_manifest(tmp_path / "other", lambda data: data["producer"].update(other="1"))
    result = x2i("run", tmp_path / "other", "--again", apple, "--out", tmp_path / "b.png")
    assert result.exit_code == 0 and "x2i: warning: bundle: the picture was drawn with" in result.stderr
    assert_close(pixels(tmp_path / "b.png"), pixels(apple), "exact")
    result = x2i("run", elite_bundle, "--again", apple)
    assert result.exit_code == 2
    assert (
        "again: expected a bundle of gluegen-text, with which the picture was drawn, got one of elite" in result.stderr
    )


def test_the_command_asks_for_files(elite_bundle, tmp_path):
    for name, picture in (("dog", PICTURE), ("cat", PICTURE[::-1]), ("mask", MASK)):
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    subject = ("--subject", tmp_path / "dog.png", "--mask", tmp_path / "mask.png")
    assert x2i("run", elite_bundle, "a S", *subject, "--steps", 2, "--out", tmp_path / "a.png").exit_code == 0
    again = ("run", elite_bundle, "--again", tmp_path / "a.png", "--out", tmp_path / "b.png")
    result = x2i(*again)
    assert result.exit_code == 2 and not (tmp_path / "b.png").exists()
    assert "subject (--subject): expected what the picture was drawn from, dog.png, got none" in result.stderr
    assert "mask (--mask): expected what the picture was drawn from, mask.png, got none" in result.stderr
    assert "warning" not in x2i(*again, *subject).stderr
    assert_close(pixels(tmp_path / "b.png"), pixels(tmp_path / "a.png"), "exact")
    result = x2i(*again, "--subject", tmp_path / "cat.png", "--mask", tmp_path / "mask.png")
    assert (
        result.exit_code == 0
        and "subject: expected what the picture was drawn from, dog.png, got another" in result.stderr
    )
    result = x2i(*again[:4], *subject, "--out", tmp_path / "a.png")
    assert result.exit_code == 2 and "expected another file than those that are read" in result.stderr


def test_the_command_refuses_pictures_without_parameters(tiny_bundle, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    for command in (("run", tiny_bundle, "--again", tmp_path / "a.png"), ("inspect", tmp_path / "a.png")):
        result = x2i(*command)
        assert result.exit_code == 2 and "expected the parameters that x2i writes" in result.stderr


def test_inspect_shows_a_picture(apple, tmp_path):
    shown = x2i("inspect", apple).stdout
    assert shown.startswith("a red apple\n") and "--seed 7" in shown and "--size 16x24" in shown
    assert json.loads(x2i("inspect", apple, "--json").stdout) == read_parameters(apple).as_json()
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + "a \x1b[31mcat\nSteps: 3".encode("utf-16-be")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=exif.tobytes())
    shown = x2i("inspect", tmp_path / "a.jpg").stdout
    assert shown == "another program wrote of it:\n  a \\x1b[31mcat\n  Steps: 3\n"
    assert json.loads(x2i("inspect", tmp_path / "a.jpg", "--json").stdout)["parameters"].endswith("Steps: 3")


def test_results_are_saved_by_their_names(sound_bundle, tmp_path):
    output = load(tiny("unid3"), "cpu", threads=1)(count=2, fast=4)
    assert [path.name for path in output.save(tmp_path / "a.jpg")] == ["a-1.jpg", "a-2.jpg"]
    texts = output.save(str(tmp_path / "a.txt"))
    assert [path.read_text("utf-8") for path in texts] == [f"{text}\n" for text in output.texts]
    (first, _) = output.save(tmp_path / "a.npy")
    assert_close(np.load(first), output.tokens[0], "exact")
    read_parameters(tmp_path / "a-1.jpg")
    output.save(tmp_path / "b.png", parameters=False)
    assert read_texts(tmp_path / "b-1.png").json is None
    with pytest.raises(InputError, match=r"expected a picture name such as a\.png"):
        output.save(tmp_path / "a.wav")
    with pytest.raises(InputError, match="does not exist; create it first"):
        output.save(tmp_path / "nowhere" / "a.png")
