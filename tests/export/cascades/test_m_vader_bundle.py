"""M-VADER from tiny random weights: commands, options, records, what is refused, and lower precisions."""

from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from x2i.export.errors import PlanError
from x2i.export.lower.calibration import record_calibration
from x2i.export.lower.lowered_bundle import lower
from x2i.export.lower.lowering import Lowering
from x2i.export.plan import ExportPlan
from x2i.export.systems.registry import system_spec
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.cli import main
from x2i.runtime.engines.shape_ranges import shape_ranges
from x2i.runtime.errors import InputError
from x2i.runtime.gate.metrics import relative_l2
from x2i.runtime.inputs.text.items import ItemsInput
from x2i.runtime.items.item import Item
from x2i.runtime.items.sequence import CONTEXT
from x2i.runtime.items.weights import KEY_BIAS, KEY_STRETCH
from x2i.runtime.load import load
from x2i.runtime.server.api.body import Body
from x2i.runtime.server.api.options import options_of_body
from x2i.runtime.server.models.capabilities import bundle_capabilities
from x2i.runtime.server.settings import ServerLimits
from x2i.runtime.sessions.backends import open_session

from tests.bundles import tiny
from tests.numerics import assert_close, assert_same_picture

FEW = {"steps": 3, "seed": 5, "size": (64, 96)}
HOUSE, SEA = ("text", "a house"), ("image", np.full((40, 30, 3), (0, 90, 200), np.uint8))


@pytest.fixture(scope="module")
def bundle():
    return tiny("m-vader")


@pytest.fixture(scope="module")
def draw(bundle):
    return load(bundle, "cpu")


def run(*words):
    return CliRunner().invoke(main, list(map(str, words)))


def pictures(*paths):
    return [np.asarray(Image.open(path)) for path in paths]


def test_a_picture_is_drawn_again_from_its_record(bundle, tmp_path):
    few = ("--steps", 3, "--size", "64x96", "--seed", 5, "--backend", "cpu")
    sea, first, again = (tmp_path / name for name in ("sea.png", "first.png", "again.png"))
    Image.fromarray(SEA[1]).save(sea)
    texts = ("--item", "text:a house: at night:0.1234567", "--item", "text:fog")
    assert run("run", bundle, *texts, *few, "--out", first).exit_code == 0
    redrawn = run("run", bundle, "--again", first, "--backend", "cpu", "--out", again)
    assert redrawn.exit_code == 0 and "warning" not in redrawn.output, redrawn.output
    assert_same_picture(*pictures(first, again))
    mixed = ("--item", "text:a house", "--item", f"image:{sea}:0.7", "--negative-item", f"image:{sea}")
    ways = ("--encoding", "separate", "--weighting", "multiplicative")
    assert run("run", bundle, *mixed, *ways, *few, "--out", first).exit_code == 0
    asked = run("run", bundle, "--again", first, "--out", again)
    assert asked.exit_code == 2
    assert (
        "items (--item): expected what the picture was drawn from, text:a house:1.0, image:sea.png:0.7" in asked.output
    )
    assert "negative_items (--negative-item)" in asked.output
    sea.rename(tmp_path / "ocean.png")
    renamed = [str(word).replace(str(sea), str(tmp_path / "ocean.png")) for word in mixed]
    given = run("run", bundle, "--again", first, *renamed, "--backend", "cpu", "--out", again)
    assert given.exit_code == 0 and "warning" not in given.output, given.output
    assert_same_picture(*pictures(first, again))
    lighter = [word.replace(":0.7", ":0.6") for word in renamed]
    other = run("run", bundle, "--again", first, *lighter, "--backend", "cpu", "--out", again)
    assert "got another; it is drawn from that" in other.output
    assert "--item image:sea.png:0.7" in run("inspect", first).output


def test_inspect_tells_of_items(bundle):
    shown = run("inspect", bundle).output
    assert "items, texts by tokenizer.json and pictures of 28x28 pixels, joint in up to 60 positions" in shown
    assert "item_pixels -> image_prefix" in shown and "denoiser, reading key.*, value.*, key_bias, key_stretch" in shown


def test_a_prompt_and_pictures_stand_before_items(draw):
    items = draw(items=[HOUSE, SEA, ("text", "fog", 0.5)], **FEW)
    same = draw("a house", image=[SEA[1]], items=("text", "fog", 0.5), **FEW)
    assert_close(same.latents, items.latents, "exact")
    negative = draw("a house", negative="fog", **FEW)
    assert_close(draw(items="text:a house", negative_items="text:fog", **FEW).latents, negative.latents, "exact")


def test_everything_changes_the_picture(draw):
    plain = draw(items=[HOUSE, SEA], **FEW).latents
    for other in (
        {"items": [SEA, HOUSE]},
        {"items": [HOUSE]},
        {"items": [HOUSE, SEA, SEA]},
        {"items": [HOUSE, (*SEA, 0.5)]},
        {"items": [HOUSE, (*SEA, 0.5)], "weighting": "multiplicative"},
        {"items": [HOUSE, (*SEA, 0.5)], "weighting": "embedding"},
        {"encoding": "separate"},
        {"negative": "fog"},
        {"negative_items": [SEA]},
        {"guidance": 1.0},
        {"seed": 6},
        {"sampler": "ddim"},
    ):
        changed = draw(**{"items": [HOUSE, SEA], **FEW, **other}).latents
        assert relative_l2(changed, plain) > 1e-4, other


def test_several_pictures_are_those_of_their_seeds(draw):
    options = {"items": [HOUSE, (*SEA, 0.3)], **FEW}
    both, second = draw(**options, count=2), draw(**{**options, "seed": 6})
    assert_close(both.latents[1:], second.latents, "batched-latents")


def test_sides_of_any_length_are_padded(draw):
    longer = draw.steps(items=[HOUSE, SEA], **FEW).slots
    shorter = draw.steps(items=[("text", "a")], negative_items=[SEA, SEA], **FEW).slots
    for slots, side in ((longer, 0), (shorter, 1)):
        rows, tokens, _ = slots[CONTEXT].shape
        assert slots[KEY_BIAS].shape == slots[KEY_STRETCH].shape == (rows, tokens) == (2, tokens)
        assert (slots[KEY_BIAS][side] < 0).sum() == tokens - 1 and not slots[KEY_BIAS][1 - side].any()


REFUSED = {
    "nothing": ({}, "items: expected a text or a picture, got none; give items (--item), a prompt or an image"),
    "another kind": ({"items": "sound:a.wav:1"}, "items[0]: expected text:WORDS or image:FILE"),
    "another kind in parts": ({"items": [("sound", "a.wav")]}, "items[0]: expected an item of the kinds text or image"),
    "no item": ({"items": [HOUSE, 5]}, "items[1]: expected a text such as"),
    "no such picture": ({"items": "image:nowhere.png:1"}, "items[0] nowhere.png: expected a picture file, got nothing"),
    "no picture's name": ({"items": "image:"}, "items[0]: expected a picture's file, got no name"),
    "a picture of another kind": ({"items": [("image", 5)]}, "items[0]: expected a file name, a PIL image"),
    "an empty text": ({"items": "text:"}, "items[0]: expected words, got an empty text"),
    "a weight that is none": ({"items": [(*HOUSE, "much")]}, "items[0]: expected a weight from 0 to 100, got 'much'"),
    "a weight of no number": ({"items": "text:a:nan"}, "items[0]: expected a weight from 0 to 100, got nan"),
    "a weight below 0": ({"items": "text:a:-0.5"}, "items[0]: expected a weight from 0 to 100, got -0.5"),
    "a weight too large": ({"items": "text:a:101"}, "items[0]: expected a weight from 0 to 100, got 101.0"),
    "weights of 0": ({"items": ["text:a:0", "text:b:0"]}, "items: expected a weight above 0, got none"),
    "too long a text": ({"items": "text:" + 61 * "a"}, "items[0]: expected at most the language model's 60 positions"),
    "too many": ({"items": [SEA] * 4}, "got 64; leave some out, or choose the encoding separate"),
    "more than are taken": ({"image": SEA[1], "items": ["text:a"] * 65}, "items: expected at most 64, got 65"),
    "a negative weight": ({"items": HOUSE, "negative_items": "text:a:2"}, "negative_items[0]: expected no weight"),
    "two negatives": ({"items": HOUSE, "negative": "a", "negative_items": "text:b"}, "negative: expected a text or"),
    "a long negative": ({"items": HOUSE, "negative": 70 * "a"}, "negative: expected at most the language model's 60"),
    "another encoding": ({"items": HOUSE, "encoding": "both"}, "encoding: expected joint or separate, got 'both'"),
    "another weighting": ({"items": HOUSE, "weighting": 1}, "weighting: expected additive or multiplicative or"),
    "a mask": ({"items": HOUSE, "mask": SEA[1]}, "mask: this bundle takes none"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_in_a_line(draw, name):
    given, said = REFUSED[name]
    with pytest.raises(InputError) as told:
        draw(**given, **FEW)
    (line,) = told.value.problems
    assert said in line and "\n" not in line


def test_every_problem_is_told_and_nothing_written(bundle, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    wrong = ("--item", "sound:a:1", "--item", f"image:{tmp_path / 'broken.png'}", "--item", "text:a:nan")
    told = run("run", bundle, *wrong, "--out", tmp_path / "out.png")
    assert told.exit_code == 2
    for said in ("items[0]: expected text:WORDS", "items[1]", "items[2]: expected a weight"):
        assert said in told.output
    assert not (tmp_path / "out.png").exists()


def test_other_bundles_take_no_items():
    with pytest.raises(InputError, match="items: this bundle takes none; leave it out"):
        load(tiny("sd"), "cpu")("a", items=["text:a"])


def test_an_export_says_how_items_are_composed(tmp_path):
    plan = ExportPlan("m-vader", tmp_path / "out", random_weights="tiny", encoding="separate", weighting="embedding")
    items = system_spec("m-vader").build(plan).plan.find(ItemsInput)
    assert (items.encoding, items.weighting) == ("separate", "embedding")
    with pytest.raises(PlanError) as told:
        system_spec("sd").check(replace(plan, system="sd"))
    assert list(told.value.problems) == [
        "--encoding: this system composes no items; leave it out",
        "--weighting: this system composes no items; leave it out",
    ]


def test_a_denoiser_of_another_width_is_refused(tmp_path, monkeypatch):
    from x2i.export.cascades import m_vader
    from x2i.models.random.cascades.m_vader import random_sequence_encoder
    from x2i.models.random.weights import random_stable_diffusion

    monkeypatch.setattr(m_vader, "read_base", lambda plan, reads_text: random_stable_diffusion("tiny"))
    monkeypatch.setattr(m_vader, "read_sequence_encoder", lambda *parts: random_sequence_encoder("tiny", 60))
    with pytest.raises(PlanError, match="cross_attention_dim 48, got n_embd 60"):
        m_vader.build_m_vader(ExportPlan("m-vader", tmp_path / "out", base="folder"))


def test_engines_serve_any_length(bundle):
    ranges = shape_ranges(open_bundle(bundle).manifest)
    assert ranges["token_embeddings"]["tokens"] == ranges["language_model"]["positions"] == (1, 60, 60)
    assert ranges["image_prefix"]["batch"] == ranges["language_model"]["batch"] == (1, 1, 1)
    assert ranges["projection"] == {"batch": (1, 2, 2), "tokens": (1, 60, 60)}
    assert ranges["denoiser"]["tokens"] == (1, 60, 60)


def test_it_is_calibrated_on_a_text_and_a_picture(bundle, tmp_path):
    opened = open_bundle(bundle)
    stand_in = opened.manifest.plan.find(ItemsInput).stand_in()
    recorded = record_calibration(
        opened, lambda graph: open_session("cpu", opened.graph_file(graph)), [{**stand_in, "steps": 3}], tmp_path
    )
    arrays = dict(np.load(recorded["denoiser"].files[0]))
    assert arrays[KEY_BIAS].shape == arrays[KEY_STRETCH].shape and arrays[KEY_BIAS].shape[1] > 16


@pytest.mark.parametrize("precision", ["fp16", "int8+fp16"])
def test_a_lower_precision_draws_the_same(bundle, draw, tmp_path, precision):
    lower(bundle, tmp_path / "low", Lowering(precision={"": precision}, steps=4, size=(64, 64)))
    options = {"items": [HOUSE, (*SEA, 0.4)], "negative_items": [SEA, SEA], **FEW, "guidance": 2.0}
    for weighting in ("additive", "multiplicative"):
        expected = draw(**options, weighting=weighting).latents
        made = load(tmp_path / "low", "cpu")(**options, weighting=weighting).latents
        assert relative_l2(made, expected) < (0.02 if precision == "fp16" else 0.2)


def test_a_server_takes_a_prompt_and_pictures_but_no_items(bundle, tmp_path):
    limits = ServerLimits()
    told = bundle_capabilities("m-vader", open_bundle(bundle).manifest, limits, True)
    assert told["prompt"] == "optional"
    assert {"negative", "image", "encoding", "weighting"} <= told["options"].keys()
    assert not {"items", "negative_items"} & told["options"].keys()
    body = Body({"items": ["image:/etc/hostname"]}, {}, typed=True)
    with pytest.raises(InputError, match="items: a server takes no names of files from its clients"):
        options_of_body(body, tmp_path, limits)


def test_a_plan_without_a_graph_for_each_kind_of_piece_is_refused(bundle):
    manifest = open_bundle(bundle).manifest
    first, *others = manifest.plan.conditioners
    assert not manifest.plan.problems(set(manifest.graphs))
    lacking = replace(manifest.plan, conditioners=(replace(first, stages=first.stages[::2]), *others))
    assert any("makes one thing of item_pixels alone" in line for line in lacking.problems(set(manifest.graphs)))


def test_an_item_may_be_given_as_it_is_kept(draw):
    plain = draw(items=[HOUSE], **FEW).latents
    assert_close(draw(items=[Item("text", "a house")], **FEW).latents, plain, "exact")
