"""What a user does with an ensemble: export, draw, leave conditions out, paint, lower, tune, keep to a limit."""

import gc
import json
import shutil
from dataclasses import replace
from weakref import WeakSet

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from x2i.export.cascades.ediff_i import build_ediff_i
from x2i.export.errors import PlanError
from x2i.export.lower.lowered_bundle import lower
from x2i.export.lower.lowering import Lowering
from x2i.export.plan import ExportPlan
from x2i.export.system import SystemSpec
from x2i.export.systems.registry import system_spec
from x2i.export.tune.candidates import Tuning
from x2i.export.tune.tune import tune
from x2i.models.errors import CheckpointError
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.cli import main
from x2i.runtime.errors import InputError
from x2i.runtime.load import load
from x2i.runtime.memory_limit import MemoryLimit, RunShape
from x2i.runtime.pipeline import Pipeline
from x2i.runtime.processes.segment import segment_at
from x2i.runtime.sessions.backends import open_session

from tests.bundles import tiny
from tests.export.cascades.ediff_i_cases import HOME, export_plan, widest, write_base
from tests.goldens import golden
from tests.numerics import assert_close, assert_same_picture

PROMPT = "a red apple and a tree"
FEW = {"steps": 4, "seed": 3}


@pytest.fixture(scope="module")
def random_bundle():
    return tiny("ediff-i")


@pytest.fixture(scope="module")
def drawing(random_bundle):
    return load(random_bundle, "cpu")


def run(*words):
    return CliRunner().invoke(main, list(map(str, words)))


def stripes():
    picture = np.zeros((30, 30, 3), np.uint8)
    picture[::3] = 255, 40, 0
    return picture


def test_every_option_changes_the_picture(drawing):
    styled = {**FEW, "style": stripes()}
    plain = drawing(PROMPT, **styled).latents
    for other in (
        {"style": None},
        {"without": "t5"},
        {"without": ["clip-text"]},
        {"without": ["clip-text", "t5"]},
        {"unconditional_keeps": "clip-image"},
        {"unconditional_keeps": ["clip-image", "t5"]},
        {"negative": "green"},
        {"guidance": 1.0},
    ):
        assert np.abs(drawing(PROMPT, **styled | other).latents - plain).max() > 1e-3, other
    both = {"without": ["clip-text", "t5"], "style": None}
    assert_close(drawing(PROMPT, **FEW | both).latents, drawing("something else", **FEW | both).latents, "exact")
    several = drawing([PROMPT, "a house"], **styled)
    assert_close(several.latents[0], plain[0], "batched-latents")


def test_what_both_sides_have_guides_nothing(drawing):
    """A picture whose conditions the other side keeps is the one without guidance."""
    keeps = {"unconditional_keeps": ["clip-text", "t5"]}
    guided, plain = drawing(PROMPT, **FEW, **keeps).latents, drawing(PROMPT, **FEW, guidance=1.0).latents
    assert_close(guided, plain, "batched-latents")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"without": "sound"}, "without: expected clip-text or t5 or clip-image, got 'sound'"),
        ({"unconditional_keeps": "clip-image"}, "unconditional_keeps: expected a condition that the prompt's side has"),
        ({"unconditional_keeps": "t5", "without": "t5"}, "unconditional_keeps: expected a condition"),
        ({"unconditional_keeps": "t5", "negative": "green"}, "expected no text beside a negative prompt"),
        ({"style": "nowhere.png"}, "nowhere.png"),
    ],
)
def test_what_does_not_fit_is_refused(drawing, options, said):
    with pytest.raises(InputError, match=said):
        drawing.check(PROMPT, **FEW, **options)


def test_words_are_painted_over_both_texts(drawing):
    left = np.zeros((16, 16), np.uint8)
    left[:, :8] = 255
    options = {"regions": (left, "apple", 1.5)}
    request = drawing.check(PROMPT, **FEW, **options)
    clip, t5 = drawing._conditions.prompt_tokenizers
    columns = np.flatnonzero(request.inputs.slots["painted.1"][-1].any(axis=0))
    rows = [tokenizer([PROMPT]).input_ids[0].tolist() for tokenizer in (clip, t5)]
    assert len(columns) == sum(len(tokenizer.encoded("apple")[1]) for tokenizer in (clip, t5))
    assert (columns >= len(rows[0])).any() and (columns < len(rows[0])).any()
    assert request.inputs.slots["painted.1"].shape[2] == len(rows[0]) + len(rows[1]) + 1
    output = drawing(PROMPT, **FEW, **options)
    assert set(output.graphs) == {"denoiser_high.paint", "denoiser_low.paint"}
    assert np.abs(output.latents - drawing(PROMPT, **FEW).latents).max() > 1e-3
    nothing = drawing(PROMPT, **FEW, **options, paint_strength=0)
    assert set(nothing.graphs) == {"denoiser_high", "denoiser_low"}
    assert_close(nothing.latents, drawing(PROMPT, **FEW).latents, "exact")


def test_an_expert_takes_over_at_its_boundary(drawing):
    segments = drawing.bundle.manifest.plan.latents.segments
    assert [segment_at(segments, time, delayed=False) for time in (999, 500.5, 500, 499.9, 0)] == [0, 0, 0, 1, 1]
    for sampler in ("heun", "dpmpp_2m", "lms", "unipc"):
        output = drawing(PROMPT, **FEW, sampler=sampler)
        assert set(output.graphs) == {"denoiser_high", "denoiser_low"} and sorted(output.segments) == list(
            output.segments
        )


def test_a_limit_opens_one_expert_at_a_time(random_bundle):
    bundle, alive, then = open_bundle(random_bundle), WeakSet(), {}

    def opened(name):
        gc.collect()
        then[name] = {each.graph for each in alive}
        session = open_session("cpu", bundle.graph_file(name))
        kept = _Held(name, session)
        alive.add(kept)
        return kept

    plain = load(random_bundle, "cpu")(PROMPT, **FEW).latents
    limited = Pipeline(bundle, opened, limit=MemoryLimit(10**10, bundle, "cpu"))
    assert_close(limited(PROMPT, **FEW).latents, plain, "exact")
    assert then["denoiser_low"] == set() and then["denoiser_high"] == set()
    parts = MemoryLimit(10**10, bundle, "cpu").peak_bytes(RunShape(256, 1, 2), bundle.manifest.plan.graphs())
    assert {"denoiser_high", "denoiser_low"} <= parts.keys()


class _Held:
    """A session that something holds."""

    def __init__(self, graph, session):
        self.graph, self._session = graph, session

    def __call__(self, **inputs):
        return self._session(**inputs)

    def __getattr__(self, name):
        return getattr(self._session, name)


def test_the_commands(random_bundle, tmp_path):
    shown = run("inspect", random_bundle)
    assert shown.exit_code == 0
    assert "steps 1 to 25 of 50, from timestep 1000: denoiser_high" in shown.output
    assert "steps 26 to 50 of 50, below timestep 500: denoiser_low" in shown.output
    Image.fromarray(stripes()).save(tmp_path / "style.png")
    words = ("run", random_bundle, PROMPT, "--steps", 3, "--style", tmp_path / "style.png", "--without", "t5")
    drawn = run(*words, "--unconditional-keeps", "clip-image", "--out", tmp_path / "a.png")
    assert drawn.exit_code == 0, drawn.output
    again = run(
        "run",
        random_bundle,
        "--again",
        tmp_path / "a.png",
        "--style",
        tmp_path / "style.png",
        "--out",
        tmp_path / "b.png",
    )
    assert again.exit_code == 0, again.output
    assert_same_picture(*(np.asarray(Image.open(tmp_path / name)) for name in ("a.png", "b.png")))


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_every_precision(random_bundle, tmp_path, precision):
    lower(random_bundle, tmp_path / "out", Lowering({"": precision}, accept=True))
    made = open_bundle(tmp_path / "out").manifest
    assert {made.graphs[f"denoiser_{name}"].precision for name in ("high", "low")} == {precision}
    assert made.plan.paint is not None and set(made.plan.paint.variants) <= made.graphs.keys()
    output = load(tmp_path / "out", "cpu")(PROMPT, **FEW)
    assert np.isfinite(output.latents).all()


def test_a_preset_keeps_features_within_an_expert(random_bundle, tmp_path):
    shutil.copytree(random_bundle, tmp_path / "bundle", copy_function=shutil.copyfile)
    (tmp_path / "bundle").chmod(0o755)
    tune(tmp_path / "bundle", Tuning(steps=8, quality=1.0, ways=("caching",), backend="cpu", runs=1))
    tuned = load(tmp_path / "bundle", "cpu")
    output = tuned(PROMPT, **FEW, preset="fast")
    for name, number in (("high", 0), ("low", 1)):
        first = output.segments.index(number)
        assert "takes" not in output.graphs[first] and output.graphs[first].startswith(f"denoiser_{name}")
    assert any("takes" in graph for graph in output.graphs)


def test_boundaries_part_the_experts(tmp_path):
    def refused(*boundaries, names=("high", "low")):
        parts = {f"expert:{name}": tmp_path for name in names}
        with pytest.raises(PlanError) as caught:
            build_ediff_i(
                ExportPlan("ediff-i", tmp_path / "out", random_weights="tiny", boundaries=boundaries, parts=parts)
            )
        (problem,) = caught.value.problems
        return problem

    assert "expected 1 timesteps between 2 experts" in refused(600.0, 300.0)
    assert "between 0 and 1000, got 1000, which leave" in refused(1000.0)
    assert "between 0 and 1000, got 0" in refused(0.0)
    other = ExportPlan("unclip", tmp_path / "out", random_weights="tiny", boundaries=(300.0,))
    with pytest.raises(PlanError, match="--boundaries: this system has one denoiser"):
        system_spec("unclip").check(other)
    given = run("export", "ediff-i", tmp_path / "out", "--random-weights", "tiny", "--boundaries", "six")
    assert given.exit_code == 2 and "expected timesteps with commas" in given.output and not (tmp_path / "out").exists()


@pytest.fixture
def base(tmp_path):
    golden(HOME)
    folder = tmp_path / "base"
    folder.mkdir()
    write_base(folder)
    return folder


def exported(base, **changes):
    plan = replace(export_plan(widest(), base, base.parent / "out"), **changes)
    spec: SystemSpec = system_spec("ediff-i")
    spec.check(plan)
    return build_ediff_i(plan).plan


def problem_of(base, **changes):
    with pytest.raises((CheckpointError, PlanError)) as caught:
        exported(base, **changes)
    return "\n".join(caught.value.problems)


def test_ranges_that_overlap_or_leave_a_gap(base):
    plan = export_plan(widest(), base, base.parent / "out")
    if len(plan.boundaries) < 2:
        pytest.skip("the goldens have no three experts")
    rising = tuple(sorted(plan.boundaries))
    assert "whose ranges overlap" in problem_of(base, boundaries=rising)
    assert "whose ranges overlap" in problem_of(base, boundaries=(plan.boundaries[0],) * len(plan.boundaries))
    assert "expected" in problem_of(base, boundaries=plan.boundaries[:1])
    assert "expected" in problem_of(base, boundaries=())


def test_experts_stand_where_their_names_say(base):
    plan = export_plan(widest(), base, base.parent / "out")
    turned = dict(reversed(plan.parts.items()))
    assert exported(base, parts=turned).denoisers() == exported(base).denoisers()


def test_experts_of_other_latents(base, tmp_path):
    plan = export_plan(widest(), base, base.parent / "out")
    name, folder = next(iter(plan.parts.items()))
    other = tmp_path / "other"
    shutil.copytree(folder, other, copy_function=shutil.copyfile)
    settings = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(settings | {"in_channels": 4, "out_channels": 4}))
    said = problem_of(base, parts=plan.parts | {name: other})
    assert "expected in_channels 4" in said or "expected in_channels 3" in said
    assert "as the expert" in said


def test_a_second_text_without_padding(base):
    config = base / "text_encoder_2" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"pad_token_id": None}))
    assert "expected config.json to name the padding's id (pad_token_id), got None" in problem_of(base)


def test_parts_that_do_not_fit(base):
    (base / "context_projections.safetensors").unlink()
    said = problem_of(base)
    assert "expected a projection of clip-text" in said and "expected a projection of t5" in said
    shutil.rmtree(base / "scheduler")
    plan = export_plan(widest(), base, base.parent / "out")
    shutil.rmtree(base / "scheduler")
    with pytest.raises(CheckpointError, match=r"expected scheduler/scheduler_config\.json"):
        build_ediff_i(plan)


def test_encoders_that_are_left_out(base):
    """Their tokens are not there at all; a note tells of the projection that nothing reads."""
    shutil.rmtree(base / "image_encoder")
    shutil.rmtree(base / "text_encoder_2")
    build = build_ediff_i(export_plan(widest(), base, base.parent / "out"))
    assert [note.split(": ")[1].split()[0] for note in build.notes] == ["t5", "clip-image"]
    assert build.plan.options() >= {"without"} and "style" not in build.plan.options()
