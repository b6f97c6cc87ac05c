import warnings

import numpy as np
import pytest
from x2i.runtime.errors import InputError
from x2i.runtime.processes.segment import Segment

from tests.numerics import assert_close
from tests.runtime.toy import plan, toy_graph, toy_pipeline


@pytest.fixture
def toy(tmp_path):
    return toy_pipeline(tmp_path / "toy")


def draw(pipeline, prompt="pomme rouge", **options):
    return pipeline(prompt, **{"language": "French", "steps": 5} | options).latents


def test_output_has_the_documented_shapes(toy):
    out = toy[0]("pomme", language="French", steps=5, count=2, size=(24, 64))
    assert out.latents.shape == (2, 4, 3, 8) and out.latents.dtype == np.float32
    assert [image.size for image in out.images] == [(64, 24)] * 2
    assert list(out.timings) == ["encode", "denoise", "decode", "total"]
    assert out.timings["total"] == pytest.approx(sum(list(out.timings.values())[:3]))


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "apple"},
        {"language": "German"},
        {"negative": "blue"},
        {"steps": 8},
        {"guidance": 3.0},
        {"sampler": "euler_a"},
        {"seed": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_picture_reacts_to_every_option(toy, change):
    assert np.abs(draw(toy[0]) - draw(toy[0], **change)).max() > 1e-3


def test_noise_replaces_the_seed(toy):
    noise = np.random.default_rng(3).standard_normal((1, 4, 6, 5)).astype(np.float32)
    first, second = (draw(toy[0], noise=noise, seed=seed) for seed in (0, 1))
    assert_close(first, second, "exact")
    assert np.abs(first - draw(toy[0], noise=noise + 0.1)).max() > 1e-3


def test_noise_array_is_left_alone(toy):
    noise = np.random.default_rng(3).standard_normal((1, 4, 6, 5)).astype(np.float32)
    before = noise.copy()
    draw(toy[0], noise=noise, sampler="lms")
    assert_close(noise, before, "exact")


@pytest.mark.parametrize("sampler", ["plms", "euler_a"])
def test_pictures_of_a_batch_do_not_influence_each_other(toy, sampler):
    batch = draw(toy[0], count=3, seed=5, sampler=sampler)
    for k in range(3):
        assert_close(draw(toy[0], seed=5 + k, sampler=sampler), batch[k : k + 1], "exact")


def test_guidance_is_one_batch_and_one_is_off(toy):
    pipeline, sessions = toy
    draw(pipeline, sampler="ddim", count=2)
    draw(pipeline, sampler="ddim", count=2, guidance=1.0)
    batches = [len(arrays["latents"]) for graph, arrays in sessions.calls if graph == "denoiser"]
    assert batches == [4] * 5 + [2] * 5


def test_guided_batch_holds_the_unconditional_side_first(toy):
    pipeline, sessions = toy
    draw(pipeline, prompt="pomme", negative="blue", count=2, steps=2)
    ids = next(arrays["input_ids"] for graph, arrays in sessions.calls if graph == "encoder")
    assert ids.tolist() == [[0, 8, 2, 1, 1, 1], [0, 6, 2, 1, 1, 1]]
    context = next(arrays["context"] for graph, arrays in sessions.calls if graph == "denoiser")
    assert_close(context[0], context[1], "exact")
    assert_close(context[2], context[3], "exact")
    assert np.abs(context[1] - context[2]).max() > 0.1


def test_translators_open_on_demand_and_once(toy):
    pipeline, sessions = toy
    assert sessions.opened == ["encoder", "decoder", "denoiser"]
    draw(pipeline)
    draw(pipeline)
    assert sessions.opened[3:] == ["translator.French"]


def test_steps_yield_the_same_run(toy):
    steps = list(toy[0].steps("pomme rouge", language="French", steps=5))
    assert [step.index for step in steps] == list(range(len(steps))) and steps[0].count == len(steps)
    assert_close(steps[-1].latents, draw(toy[0]), "exact")
    timesteps = [step.timestep for step in steps]
    assert timesteps == sorted(timesteps, reverse=True)


def test_leaving_the_loop_stops_the_run(toy):
    pipeline, sessions = toy
    for step in pipeline.steps("pomme", language="French", steps=50):
        if step.index == 2:
            break
    assert sum(graph == "denoiser" for graph, _ in sessions.calls) == 4  # PLMS looks ahead once


def test_preview_decodes_the_predicted_picture(toy):
    pipeline, sessions = toy
    steps = list(pipeline.steps("pomme", language="French", steps=20))
    before = len(sessions.calls)
    previews = [step.preview()[0] for step in steps]
    assert [graph for graph, _ in sessions.calls[before:]] == ["decoder"] * len(steps)
    assert previews[0].size == (40, 48)
    assert np.abs(np.asarray(previews[0], np.int16) - np.asarray(previews[-1], np.int16)).max() > 1


def test_segments_take_over_at_their_timestep(tmp_path):
    context = {"context": "context"}
    segments = Segment("denoiser1", 1000, context), Segment("denoiser2", 500, context)
    names = ["encoder", "translator.French", "decoder", "denoiser1", "denoiser2"]
    graphs = {name: toy_graph(plan(segments), name, "denoiser.onnx") for name in names}
    pipeline, sessions = toy_pipeline(tmp_path / "toy", plan=plan(segments), graphs=graphs)
    draw(pipeline, sampler="ddim", steps=4)
    calls = [(graph, arrays["timestep"][0]) for graph, arrays in sessions.calls if graph.startswith("denoiser")]
    assert calls == [("denoiser1", 751), ("denoiser1", 501), ("denoiser2", 251), ("denoiser2", 1)]
    contexts = {id(arrays["context"]) for graph, arrays in sessions.calls if graph.startswith("denoiser")}
    assert len(contexts) == 1, "the context is repeated once for all segments and steps"


def test_too_long_prompt_is_drawn_with_a_warning_that_names_the_cut_text(toy):
    pipeline, sessions = toy
    with pytest.warns(UserWarning, match="'blue apple'"):
        out = pipeline("red apple pomme rouge blue apple", language="French", steps=2)
    assert len(out.images) == 1 and "'blue apple'" in out.warnings[0]
    ids = next(arrays["input_ids"] for graph, arrays in sessions.calls if graph == "encoder")
    assert ids[1].tolist() == [0, 4, 5, 6, 7, 2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipeline("red apple pomme rouge", language="French", steps=2)


BAD = {
    "language": ({"language": "Klingon"}, "language: expected one of French, German, got 'Klingon'"),
    "no language": ({"language": None}, "language: expected one of French, German, got none"),
    "size": ({"size": (50, 64)}, "multiples of 8 pixels, got (50, 64); try 48x64"),
    "zero size": ({"size": (0, 64)}, "multiples of 8"),
    "nan": ({"noise": np.full((1, 4, 6, 5), np.nan, np.float32)}, "noise: expected finite numbers, got 120 NaN"),
    "noise shape": (
        {"noise": np.zeros((1, 3, 6, 5), np.float32)},
        "[count, 4, height, width], got float32 [1, 3, 6, 5]",
    ),
    "noise type": ({"noise": np.zeros((1, 4, 6, 5), np.int64)}, "got int64"),
    "noise and size": ({"noise": np.zeros((1, 4, 6, 5), np.float32), "size": (48, 48)}, "the noise is for 48x40"),
    "noise and count": ({"noise": np.zeros((1, 4, 6, 5), np.float32), "count": 2}, "count: the noise holds 1"),
    "steps": ({"steps": 0}, "steps: expected a whole number from 1 to 1000, got 0"),
    "many steps": ({"steps": 1001}, "got 1001"),
    "guidance": ({"guidance": float("inf")}, "guidance: expected a finite number"),
    "sampler": ({"sampler": "magic"}, "sampler: expected one of"),
    "seed": ({"seed": -1}, "seed: expected a whole number from 0 to 9223372036854775807, got -1"),
    "count": ({"count": 0}, "count: expected a whole number from 1 to 1024, got 0"),
}


@pytest.mark.parametrize(("options", "message"), BAD.values(), ids=BAD)
def test_bad_options_are_refused_before_any_work(toy, options, message):
    pipeline, sessions = toy
    for call in (pipeline, pipeline.steps):
        with pytest.raises(InputError) as caught:
            call("pomme", **{"language": "French"} | options)
        assert message in str(caught.value)
    assert sessions.calls == []


def test_all_bad_options_are_told_together(toy):
    with pytest.raises(InputError) as caught:
        toy[0]("pomme", language="Klingon", steps=0, size=(3, 3), guidance=float("nan"), seed=-2, count=0)
    assert len(caught.value.problems) == 6


def test_unknown_option_raises(toy):
    with pytest.raises(TypeError, match="colour"):
        toy[0]("pomme", language="French", colour="red")


def test_prompt_that_is_no_unicode_is_refused(toy):
    pipeline, _ = toy
    with pytest.raises(InputError, match="prompt: expected text in Unicode"):
        pipeline("caf\udce9", language="French")


def test_a_run_that_ran_away_is_refused_instead_of_drawn_black(toy):
    pipeline, _ = toy
    with pytest.raises(InputError, match=r"latents: expected finite numbers.*lower guidance"):
        pipeline("red apple", language="French", guidance=1e39)
