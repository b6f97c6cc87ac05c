"""Frido's bundles of random weights: the commands, every option, recorded draws, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from x2i.export.cascades.frido import build_frido
from x2i.export.errors import PlanError
from x2i.export.exporter import export_bundle
from x2i.export.gate_cases import start_noise
from x2i.export.lower.calibration import record_calibration
from x2i.export.plan import ExportPlan
from x2i.models.errors import CheckpointError
from x2i.models.random.cascades.frido import random_frido, random_word_pieces
from x2i.runtime.bundle.cfg_batch import cfg_batch_sizes
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.cli import main
from x2i.runtime.engines.shape_ranges import shape_ranges
from x2i.runtime.errors import InputError
from x2i.runtime.load import load
from x2i.runtime.processes.guidance import Guidance
from x2i.runtime.samplers.sampler import Noise
from x2i.runtime.server.models.capabilities import bundle_capabilities
from x2i.runtime.server.settings import ServerLimits
from x2i.runtime.sessions.backends import open_session

from tests.bundles import tiny
from tests.made_once import made_once
from tests.models.frido.frido_files import write_frido
from tests.numerics import assert_close, assert_same_picture

FEW = {"steps": 4, "seed": 1}
BOXES = {
    "objects": [
        {"category_no": 7, "bbox_xywh": [0.1, 0.2, 0.5, 0.6]},
        {"category_no": 3, "bbox_xywh": [0.55, 0.4, 0.4, 0.55], "is_group_of": True},
    ]
}


@pytest.fixture(scope="module")
def texts():
    return tiny("frido")


@pytest.fixture(scope="module")
def boxes():
    def export(out):
        export_bundle(ExportPlan("frido", out, random_weights="tiny-layout", licences=("none: random",)))

    return made_once("tiny-frido-layout", export)


def run(*words):
    return CliRunner().invoke(main, list(map(str, words)))


def pictures(folder, *names):
    return [np.asarray(Image.open(folder / name)) for name in names]


def test_the_commands(texts, tmp_path):
    shown = run("inspect", texts).output
    for said in (
        "its last state -> coarse",
        "coarse -> pooled -> pooled",
        "pooled -> guides -> scale.*, shift.*",
        "denoiser, reading key.*, value.*, scale.*, shift.*",
        "latents, pooled -> decoder -> 48x48 pixels, 4 per latent, truncate to bytes",
    ):
        assert said in shown
    drawn = run("run", texts, "a dog", "--steps", 4, "--count", 2, "--seed", 5, "--out", tmp_path / "a.png")
    assert drawn.exit_code == 0, drawn.output
    alone = run("run", texts, "a dog", "--steps", 4, "--seed", 6, "--out", tmp_path / "b.png")
    assert alone.exit_code == 0, alone.output
    again = run("run", texts, "--again", tmp_path / "b.png", "--out", tmp_path / "c.png")
    assert again.exit_code == 0, again.output
    last, single, same = pictures(tmp_path, "a-2.png", "b.png", "c.png")
    assert_same_picture(last, single)
    assert_same_picture(same, single)


def test_the_commands_of_a_layout(boxes, tmp_path):
    (tmp_path / "boxes.json").write_text(json.dumps(BOXES))
    given = ("--layout", tmp_path / "boxes.json", "--steps", 4)
    drawn = run("run", boxes, *given, "--size", "24x16", "--out", tmp_path / "a.png")
    assert drawn.exit_code == 0, drawn.output
    again = run("run", boxes, "--again", tmp_path / "a.png", "--out", tmp_path / "b.png")
    assert again.exit_code == 0, again.output
    first, second = pictures(tmp_path, "a.png", "b.png")
    assert first.shape == (24, 16, 3)
    assert_same_picture(second, first)
    (tmp_path / "boxes.json").write_text(json.dumps({"objects": [{"category_no": 75, "bbox_xywh": [0, 0, 1, 1]}]}))
    told = run("run", boxes, *given, "--out", tmp_path / "c.png")
    assert told.exit_code == 2 and "objects[0]: expected category_no as a whole number from 0 to 74" in told.output
    assert not (tmp_path / "c.png").exists()


def test_every_option_changes_the_picture(texts):
    draw = load(texts, "cpu")
    plain = draw("a dog", **FEW).latents
    changes = (
        {"steps": 5},
        {"guidance": 3.0},
        {"guidance": 1.0},
        {"negative": "cat"},
        {"seed": 2},
        {"eta": 0.0},
        {"sampler": "plms"},
    )
    for other in changes:
        assert np.abs(draw("a dog", **FEW | other).latents - plain).max() > 1e-3, other
    assert np.abs(draw("a cat", **FEW).latents - plain).max() > 1e-3
    both = draw(["a dog", "a cat"], **FEW)
    assert_close(both.latents[0], plain[0], "batched-latents")


def test_what_a_layout_says_changes_the_picture(boxes):
    draw = load(boxes, "cpu")
    plain = draw(layout=BOXES, **FEW).latents
    moved = {"objects": [BOXES["objects"][0] | {"bbox_xywh": [0.4, 0.2, 0.5, 0.6]}, BOXES["objects"][1]]}
    others = (moved, BOXES | {"flip": True}, BOXES | {"crop": [0.0, 0.0, 0.7, 1.0]})
    for other in (*others, BOXES | {"builder": {"no_max_objects": 5}}, {"objects": BOXES["objects"][:1]}):
        assert np.abs(draw(layout=other, **FEW).latents - plain).max() > 1e-4, other
    with pytest.warns(UserWarning, match="takes twice the time"):
        assert np.abs(draw(layout=BOXES, guidance=2.0, **FEW).latents - plain).max() > 1e-4


def test_a_layout_is_steered_away_from_zeros(boxes):
    draw = load(boxes, "cpu")
    with pytest.warns(UserWarning, match="takes twice the time"):
        walk = draw.steps(layout=BOXES, guidance=2.0, **FEW)
    list(walk)
    assert not walk.slots["context"][0].any() and walk.slots["context"][1].any()


def test_both_levels_follow_the_call(texts):
    """Their steps, their guidance, their sampler and their size."""
    draw = load(texts, "cpu")
    walk = draw.steps("a dog", steps=7, sampler="plms", guidance=1.0, size=(32, 56))
    steps = list(walk)
    assert [step.count for step in steps] == [8] * 16 and [step.index for step in steps] == [*range(8)] * 2
    assert {step.state.shape for step in steps[:8]} == {(1, 4, 8, 14)}
    assert {step.state.shape for step in steps[8:]} == {(1, 3, 8, 14)}
    output = walk.finish(steps[-1])
    assert output.images[0].size == (56, 32)
    # PLMS calls twice in its first step.
    assert output.graphs == ("coarse_denoiser",) * 9 + ("denoiser",) * 9
    assert steps[0].preview() == [] and len(steps[-1].preview()) == 1
    pooled = walk.slots["pooled"][-1]
    assert_close(pooled, np.repeat(np.repeat(pooled[:, ::2, ::2], 2, axis=1), 2, axis=2), "exact")


def test_recorded_draws_take_the_place_of_the_seed_s(texts):
    draw = load(texts, "cpu")
    plain = draw("a dog", **FEW).latents

    def own(channels, stream, count):
        noise = Noise(1, 1, (channels, 12, 12), stream)
        return np.stack([noise() for _ in range(count + 1)])

    parts = {"coarse_": own(4, "coarse_noise", 4), "": own(3, "", 4)}
    noise = {f"{prefix}noise": draws[:1] for prefix, draws in parts.items()}
    noise |= {f"{prefix}step_noise": draws[1:] for prefix, draws in parts.items()}
    assert_close(draw("a dog", steps=4, seed=99, noise=noise).latents, plain, "exact")
    whole = np.concatenate([noise["coarse_noise"][0], noise["noise"][0]], axis=1)
    assert_close(draw("a dog", noise=whole, eta=0.0, steps=4).latents, draw("a dog", eta=0.0, **FEW).latents, "exact")


def test_recorded_draws_that_do_not_fit_are_told_by_name(texts):
    draw = load(texts, "cpu")
    coarse, fine = np.zeros((1, 1, 4, 12, 12), np.float32), np.zeros((1, 1, 3, 12, 12), np.float32)
    both = {"coarse_noise": coarse, "noise": fine}
    for noise, said in (
        ({"noise": fine}, "noise: expected coarse_noise beside noise, got none"),
        ({"coarse_noise": coarse}, "noise: expected noise beside coarse_noise, got none"),
        (both | {"step_noise": fine}, "noise: expected coarse_step_noise beside step_noise, got none"),
        ({"coarse_noise": fine, "noise": fine}, r"shape \[1, count, 4, height, width\] for coarse_noise"),
        (both | {"prior_noise": fine}, "expected draws named coarse_noise, coarse_step_noise, noise, step_noise"),
        ({"coarse_noise": coarse[..., :10], "noise": fine}, "noise: expected draws of one shape"),
        (
            both | {"coarse_step_noise": coarse, "step_noise": fine},
            "expected more than 1 draws named coarse_step_noise",
        ),
        (np.zeros((1, 3, 12, 12), np.float32), r"noise: expected float32 \[count, 7, height, width\]"),
    ):
        with pytest.raises(InputError, match=said):
            draw("a dog", noise=noise, **FEW)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": 3}, "got 3, which starts at 1000; the nearest that work: 2 and 4"),
        ({"steps": 999}, "which starts at 1000; the nearest that work: 500"),
        ({"steps": 1001}, "steps: expected a whole number from 1 to 1000"),
        ({"size": (36, 48)}, "size: expected (height, width) in multiples of 8 pixels"),
        ({"layout": BOXES}, "layout: this bundle takes none"),
        ({"sampler": "unclip"}, "sampler: expected one of"),
        ({"sampler": "plms", "eta": 0.5}, "eta: the sampler plms reads none"),
        ({"prior_steps": 5}, "prior_steps: this bundle takes none"),
    ],
)
def test_bad_input_is_refused(texts, options, said):
    with pytest.raises(InputError) as told:
        load(texts, "cpu")("a dog", **options)
    assert said in str(told.value)


def test_a_layout_s_model_reads_no_prompt(boxes):
    with pytest.raises(InputError, match="prompt: this bundle reads no text"):
        load(boxes, "cpu")("a dog", layout=BOXES)
    with pytest.raises(InputError, match="layout: expected what is drawn where, got none"):
        load(boxes, "cpu")()


@pytest.mark.parametrize("variant", ["tiny", "tiny-layout"])
def test_from_files(variant, tmp_path):
    """They give the plan and the graphs of the random model that they were written from."""
    checkpoint, config = write_frido(tmp_path, variant)
    (tmp_path / "vocab.txt").write_text("\n".join(pieces()) + "\n")
    parts = {"checkpoint": checkpoint, "config": config}
    read = {**parts, "tokenizer": tmp_path / "vocab.txt"}
    wrong, right = (parts, read) if variant == "tiny" else (read, parts)
    told = run("export", "frido", tmp_path / "out", *(f"--part={name}={path}" for name, path in wrong.items()))
    assert told.exit_code == 2 and "--part tokenizer: expected" in told.output and not (tmp_path / "out").exists()
    made = build_frido(ExportPlan("frido", tmp_path / "out", parts=right))
    own = build_frido(ExportPlan("frido", tmp_path / "out", random_weights=variant))
    assert made.plan == own.plan and made.tokenizers == own.tokenizers
    assert [component.name for component in made.components] == [component.name for component in own.components]


def pieces():
    vocabulary = json.loads(random_word_pieces(120)[0])["model"]["vocab"]
    return sorted(vocabulary, key=vocabulary.get)


def test_what_is_not_given_is_told(tmp_path):
    told = run("export", "frido", tmp_path / "out", "--base", "x", "--steps", 5)
    assert told.exit_code == 2 and not (tmp_path / "out").exists()
    for said in (
        "--base: this system is made of parts alone",
        "--steps: this system is sampled as its own checkpoint says",
        "--part checkpoint: expected the checkpoint",
        "--part config: expected its settings",
    ):
        assert said in told.output
    with pytest.raises(CheckpointError, match="expected t2i-f16f8 or layout2i-f8f4 or tiny or tiny-layout"):
        random_frido("huge")
    with pytest.raises(PlanError, match="--part tokenizer: expected BERT's"):
        checkpoint, config = write_frido(tmp_path)
        build_frido(ExportPlan("frido", tmp_path, parts={"checkpoint": checkpoint, "config": config}))


def test_under_a_memory_limit_the_same_picture(texts):
    free, limited = load(texts, "cpu"), load(texts, "cpu", max_memory="2GB")
    assert_close(limited("a dog", **FEW).latents, free("a dog", **FEW).latents, "batched-latents")


def test_both_networks_are_calibrated(boxes, tmp_path):
    bundle = open_bundle(boxes)

    def opened(graph):
        return open_session("cpu", bundle.graph_file(graph))

    recorded = record_calibration(bundle, opened, [{"layout": json.dumps(BOXES), "steps": 7}], tmp_path)
    assert {graph: len(calls) for graph, calls in recorded.items()} == {"coarse_denoiser": 4, "denoiser": 4}


def test_what_is_told_of_the_plan(texts, boxes, tmp_path):
    manifest = open_bundle(texts).manifest
    set_at_export = ExportPlan("frido", tmp_path, guidance=3.0).with_defaults(manifest.plan)
    assert [process.guidance.scale for process in set_at_export.processes] == [3.0, 3.0]
    told = bundle_capabilities("frido", manifest, ServerLimits(), loaded=False)
    assert (told["steps"], told["guidance"], told["size"]["height"]) == (200, 1.5, 48)
    assert cfg_batch_sizes(manifest.plan, "denoiser") == (2,)
    assert start_noise(manifest.plan, 0).shape == (1, 7, 12, 12)
    ranges = shape_ranges(manifest, [(32, 56)], count=3)
    fine = {"batch": (1, 6, 6), "tokens": (19,) * 3, "2*height": (8,) * 3, "2*width": (14,) * 3}
    assert ranges["coarse_denoiser"] == fine
    assert ranges["denoiser"] == fine | {"height": (4,) * 3, "width": (7,) * 3}
    assert ranges["pooled"]["batch"][1] == 6 and ranges["decoder"]["batch"] == (1, 3, 3)
    layout = open_bundle(boxes).manifest
    assert shape_ranges(layout)["layout_encoder"]["tokens"] == (26, 26, 26)


def test_levels_of_one_picture_go_one_way(texts):
    manifest = open_bundle(texts).manifest
    coarse, fine = manifest.plan.processes
    other = replace(manifest.plan, processes=(replace(coarse, guidance=Guidance(3.0)), fine))
    assert "plan: expected one schedule, sampler and guidance of all levels" in str(
        other.problems(set(manifest.graphs))
    )
    unread = replace(fine, decoder=replace(fine.decoder, context={"finished": "nothing"}))
    told = replace(manifest.plan, processes=(coarse, unread)).problems(set(manifest.graphs))
    assert "plan: slot 'nothing' is read but never written" in told
