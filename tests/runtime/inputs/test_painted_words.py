"""Painted words as a caller gives them: what is refused, which size they make, and what reaches the network."""

import json
from dataclasses import replace

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from x2i.runtime.bundle.manifest import Manifest, in_this_revision
from x2i.runtime.bundle.plan import Plan
from x2i.runtime.bundle.records import decode, encode
from x2i.runtime.commands.options import given_keywords, run_keywords
from x2i.runtime.commands.plan_text import plan_lines
from x2i.runtime.engines.shape_ranges import shape_ranges
from x2i.runtime.errors import InputError
from x2i.runtime.inputs.option import PreparedInputs
from x2i.runtime.inputs.paint import PaintGraph, PaintInput, PaintLayer, painted_name
from x2i.runtime.inputs.registry import RunOptions
from x2i.runtime.paint.gains import PaintGains
from x2i.runtime.paint.given import region_texts
from x2i.runtime.paint.maps import blurred, corners_resized, nearest_resized, pixels_resized, region_columns
from x2i.runtime.paint.region import RegionWords, parse_region, parse_words
from x2i.runtime.redraw.again import drawn_again
from x2i.runtime.samplers.registry import SAMPLERS, make_sampler
from x2i.runtime.samplers.schedule import Schedule, training_sigmas
from x2i.runtime.samplers.settings import SamplerSettings

from tests.goldens import golden
from tests.numerics import assert_close
from tests.runtime.toy import Sessions, plan, toy_graph, toy_pipeline, write_toy

RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)
PROMPT = "red apple blue"
WORDS = {"#ff0000": "apple,1.5", "0,255,0": "blue,0.5", "#ffffff": None}
LANGUAGE = {"language": "French"}


def painted_plan() -> Plan:
    layers = (PaintLayer("down.attn2", 1, 2), PaintLayer("mid.attn2", 4, 2))
    return replace(plan(), paint=PaintInput((PaintGraph("denoiser", layers),), 4, 8, 8))


class PaintedSessions(Sessions):
    """The painted graph reacts to all that it is given."""

    def open(self, graph):
        if graph != "denoiser.paint":
            return super().open(graph)
        self.opened.append(graph)
        plain = super().open("denoiser")

        def call(**arrays):
            self.calls.append((graph, arrays))
            own = {name: arrays[name] for name in ("latents", "timestep", "context")}
            lift = arrays["gain_max"] * sum(arrays[painted_name(f)].sum((1, 2)) for f in (1, 4)) * 1e-3
            return {"noise": plain(**own)["noise"] + lift[:, None, None, None].astype(np.float32)}

        names = ("latents", "timestep", "context", "painted.1", "painted.4", "gain_max", "gain_deviation", "key_bias")
        call.inputs = tuple(replace(plain.inputs[0], name=name) for name in names)
        call.bind = lambda **fixed: lambda **rest: call(**fixed, **rest)
        return call


@pytest.fixture
def drawing(tmp_path):
    from x2i.runtime.bundle.reader import open_bundle
    from x2i.runtime.pipeline import Pipeline

    sessions = PaintedSessions()
    names = ["encoder", "translator.French", "translator.German", "decoder", "denoiser", "denoiser.paint"]
    return Pipeline(open_bundle(write_toy(tmp_path / "toy", plan=painted_plan(), names=names)), sessions.open), sessions


def half_map(height=48, width=40):
    """Red on the left, green on the right, white below."""
    picture = np.full((height, width, 3), WHITE, np.uint8)
    picture[: height * 3 // 4, : width // 2], picture[: height * 3 // 4, width // 2 :] = RED, GREEN
    return picture


def mask(height=48, width=40):
    inside = np.zeros((height, width), np.uint8)
    inside[8:24, 8:24] = 255
    return inside


REFUSED = {
    "no words": ({"paint": half_map()}, "paint: expected the words of its colours, got none; give paint_words"),
    "no map": ({"paint_words": WORDS}, "paint_words: expected a painted map for these words"),
    "a colour without a word": (
        {"paint": half_map(), "paint_words": {"#ff0000": "apple"}},
        "paint: expected words for every colour of the map, got none for #00ff00 (37.5% of the map), #ffffff (25.0% of "
        "the map); add them, null for one that stands for nothing",
    ),
    "a word not in the prompt": (
        {"paint": half_map(), "paint_words": WORDS | {"#ff0000": "pomme rouge,1.5"}},
        "paint: #ff0000: expected words of the prompt, got 'pomme rouge', whose tokens ('pomme', 'rouge') stand "
        "nowhere in it one after the other",
    ),
    "words in another order": (
        {"regions": [(mask(), "apple red")]},
        "regions[0]: expected words of the prompt, got 'apple red', whose tokens ('apple', 'red') stand nowhere",
    ),
    "an empty word": (
        {"paint": half_map(), "paint_words": WORDS | {"#ff0000": ",1.5"}},
        "paint_words: ',1.5': expected words of the prompt, got none",
    ),
    "a weight that is none": (
        {"paint": half_map(), "paint_words": WORDS | {"#ff0000": "apple,much"}},
        "paint_words: 'apple,much': expected a weight, got 'much'",
    ),
    "a seed behind a whole weight": (
        {"paint": half_map(), "paint_words": WORDS | {"#ff0000": "apple,2,2077"}},
        "paint_words: 'apple,2,2077': expected a weight, got 'apple'; write boat,2.0",
    ),
    "no colour": (
        {"paint": half_map(), "paint_words": {"redish": "apple"}},
        "paint_words: 'redish': expected a colour",
    ),
    "a colour twice": (
        {"paint": half_map(), "paint_words": WORDS | {"255,0,0": "apple"}},
        "paint_words: expected each colour once, got #ff0000 twice",
    ),
    "another size": (
        {"regions": [(mask(), "apple"), (mask(24, 40), "blue")]},
        "regions[1]: expected 48x40 pixels (height x width) like regions[0], got 24x40; scale it",
    ),
    "too small": ({"regions": (mask()[:5], "apple")}, "regions[0]: expected at least 8 pixels a side, got 5x40"),
    "no region": ({"regions": [3]}, "regions[0]: expected (mask, words, weight) or a text such as mask.png:cat:1.2"),
    "no mask": ({"regions": ["nowhere.png:apple"]}, "regions[0] nowhere.png: expected a picture file"),
    "strength": (
        {"regions": (mask(), "apple"), "paint_strength": -1},
        "paint_strength: expected a finite number from 0",
    ),
    "strength alone": ({"paint_strength": 0.3}, "paint_strength: expected a painted map or a region, got neither"),
    "form": ({"regions": (mask(), "apple"), "paint_form": "mean"}, "paint_form: expected max or std or std_sq"),
    "blur": ({"regions": (mask(), "apple", 1.0, -1, 0.0)}, "regions[0]: 'apple': expected a blur above 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_told_in_one_line(drawing, case):
    given, problem = REFUSED[case]
    with pytest.raises(InputError) as caught:
        drawing[0].check(PROMPT, **LANGUAGE, **given)
    (line,) = caught.value.problems
    assert line.startswith(problem), line
    assert not drawing[1].calls


def test_all_problems_are_told_at_once(drawing):
    words = {"#ff0000": "apple,much", "#0": "blue"}
    with pytest.raises(InputError) as caught:
        drawing[0].check(PROMPT, steps=0, paint=half_map(), paint_words=words, regions=[(mask(), "")], **LANGUAGE)
    assert len(caught.value.problems) == 4, caught.value.problems


def test_a_bundle_without_it_refuses_it(tmp_path):
    with pytest.raises(InputError, match="regions: this bundle takes none; leave it out, or export its base again"):
        toy_pipeline(tmp_path / "toy")[0].check(PROMPT, regions=(mask(), "apple"), **LANGUAGE)


def test_a_lora_of_the_denoiser_is_refused_beside_it(drawing):
    paint, request = painted_plan().paint, drawing[0].check(PROMPT, **LANGUAGE)
    made = PreparedInputs(lora={"denoiser": {}})
    from x2i.runtime.inputs.option import CallContext

    values = request.values | {"regions": (mask(), "apple")}
    call = CallContext(values, PROMPT, drawing[0]._conditions.prompt_tokenizers[0], 2, 5, size=(48, 40), count=1)
    with pytest.raises(InputError, match=r"paint: expected no LoRA of the denoiser .* x2i export --lora"):
        paint.prepare(call, made)


def test_strength_0_and_weights_of_0_are_the_plain_run(drawing):
    pipeline, sessions = drawing
    plain = pipeline(PROMPT, **LANGUAGE)
    painted = {"paint": half_map(), "paint_words": WORDS}
    for given in (painted | {"paint_strength": 0}, {"regions": (mask(), "apple", 0.0)}):
        output = pipeline(PROMPT, **LANGUAGE, **given)
        assert output.latents.tobytes() == plain.latents.tobytes()
        assert output.images[0].tobytes() == plain.images[0].tobytes()
    assert "denoiser.paint" not in sessions.opened
    assert pipeline(PROMPT, **LANGUAGE, **painted).latents.tobytes() != plain.latents.tobytes()


@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_the_network_gets_maps_for_the_conditional_side_alone(drawing, guidance):
    pipeline, sessions = drawing
    pipeline(PROMPT, paint=half_map(), paint_words=WORDS, guidance=guidance, count=2, **LANGUAGE)
    calls = [arrays for graph, arrays in sessions.calls if graph == "denoiser.paint"]
    request = pipeline.check(PROMPT, paint=half_map(), paint_words=WORDS, guidance=guidance, count=2, **LANGUAGE)
    assert len(calls) == request.calls
    rows = 2 if guidance == 1 else 4
    for arrays in calls:
        sigma = request.sampler.sigma_at(float(arrays["timestep"][0]))
        expected = np.full(rows, 0.1 * np.log1p(sigma), np.float32)
        assert_close(arrays["gain_max"], expected, "metric")
        assert not arrays["gain_deviation"].any() and not arrays["key_bias"].any()
        assert arrays["painted.1"].shape == (rows, 30, 6) and arrays["painted.4"].shape == (rows, 4, 6)
        assert not arrays["painted.1"][:-2].any() and arrays["painted.1"][-2:].any()
    maps = calls[0]["painted.1"][-1].reshape(6, 5, 6)
    # <s> red apple blue </s> <pad>: apple on the left with 1.5, blue on the right with 0.5, nothing below.
    assert maps[0, 0].tolist() == [0, 0, 1.5, 0, 0, 0] and maps[0, 4].tolist() == [0, 0, 0, 0.5, 0, 0]
    assert not maps[5].any() and not maps[:, :, [0, 1, 4, 5]].any()


def test_every_occurrence_and_every_sub_token_counts(drawing):
    request = drawing[0].check(
        "red apple red apple", regions=[(mask(), "red apple"), (mask(), "apple", 2.0)], **LANGUAGE
    )
    peak = request.inputs.slots["painted.1"][-1].max(0)
    # <s> red apple red apple </s>
    assert peak.tolist() == [0, 1, 3, 1, 3, 0]


def test_the_map_sets_the_size_and_gives_way_to_others(drawing):
    pipeline, _ = drawing
    odd = half_map(30, 51)
    request = pipeline.check(PROMPT, paint=odd, paint_words=WORDS, **LANGUAGE)
    assert request.size == (24, 48) and any("next smaller multiples of 8" in note for note in request.notes)
    assert request.inputs.slots["painted.1"].shape[1] == 18
    for given in ({"size": (64, 32)}, {"noise": np.zeros((1, 4, 8, 4), np.float32)}):
        request = pipeline.check(PROMPT, paint=half_map(), paint_words=WORDS, **given, **LANGUAGE)
        assert request.size == (64, 32) and request.inputs.slots["painted.1"].shape[1] == 32
        assert any("scaled from 48x40 to 64x32" in note for note in request.notes)
    # Its own noise needs no scaling, although the map is no multiple of 8.
    noise = np.zeros((1, 4, 3, 6), np.float32)
    request = pipeline.check(PROMPT, paint=odd, paint_words=WORDS, noise=noise, **LANGUAGE)
    assert not any("scaled" in note for note in request.notes)


def test_a_colour_that_is_not_in_the_map_is_told(drawing):
    words = WORDS | {"#123456": "red"}
    request = drawing[0].check(PROMPT, paint=half_map(), paint_words=words, **LANGUAGE)
    assert any("#123456 is nowhere in the map; 'red' is not painted by it" in note for note in request.notes)


def test_a_region_with_a_seed_has_that_pictures_noise(drawing):
    pipeline, sessions = drawing
    whole = np.full((48, 40), 255, np.uint8)
    options = {**LANGUAGE, "guidance": 1.0, "steps": 1, "paint_strength": 0}
    pipeline(PROMPT, seed=7, **options | {"paint_strength": None})
    pipeline(PROMPT, seed=3, regions=(whole, "apple", 1.0, 7), **options)
    pipeline(PROMPT, seed=3, regions=(mask(), "apple", 1.0, 7), **options)
    pipeline(PROMPT, seed=3, **options | {"paint_strength": None})
    seven, all_seven, part, three = [arrays["latents"] for graph, arrays in sessions.calls if graph == "denoiser"][::2]
    assert all_seven.tobytes() == seven.tobytes()
    assert (part[..., 1:3, 1:3] == seven[..., 1:3, 1:3]).all() and (part[..., 3:, :] == three[..., 3:, :]).all()


def test_noise_of_regions_may_be_recorded(drawing):
    draws = np.random.default_rng(4).standard_normal((1, 1, 4, 6, 5), np.float32)
    regions = [(mask(), "red"), (mask(), "apple", 1.0, 7)]
    request = drawing[0].check(PROMPT, regions=regions, noise={"region.1": draws}, **LANGUAGE)
    cover = request.inputs.slots["region_cover"]
    assert_close(request.inputs.slots["region_noise"], cover * draws[0], "metric")
    start = np.zeros((1, 3, 4, 6, 5), np.float32)
    request = drawing[0].check(PROMPT, regions=regions, noise={"region.1": draws, "noise": start}, **LANGUAGE)
    assert request.count == 3
    with pytest.raises(InputError, match=r"noise: expected one draw for all pictures in region\.1, got 3"):
        drawing[0].check(PROMPT, regions=regions, noise={"region.1": start, "noise": start}, **LANGUAGE)
    with pytest.raises(InputError, match=r"noise: expected draws named noise, .*got 'region\.x'"):
        drawing[0].check(PROMPT, regions=regions, noise={"region.x": draws}, **LANGUAGE)


def test_several_prompts_have_their_own_maps(drawing):
    pipeline, sessions = drawing
    prompts = ["red apple", "apple blue"]
    pipeline(prompts, regions=(mask(), "apple"), steps=2, **LANGUAGE)
    maps = next(arrays["painted.1"] for graph, arrays in sessions.calls if graph == "denoiser.paint")
    assert maps.shape[0] == 4 and not maps[:2].any()
    assert maps[2].max(0).argmax() == 2 and maps[3].max(0).argmax() == 1


def test_a_picture_tells_how_it_is_drawn_again(drawing):
    pipeline, _ = drawing
    painted = {"paint": half_map(), "paint_words": {(255, 0, 0): ("apple", 1.5), "0,255,0": "blue,0.5", WHITE: None}}
    output = pipeline(PROMPT, **painted, paint_strength=0.3, seed=5, **LANGUAGE)
    (parameters,) = output.parameters
    stored = dict(parameters.options.values)
    assert json.loads(stored["paint_words"]) == {"255,0,0": ["apple", 1.5], "0,255,0": "blue,0.5", "255,255,255": None}
    assert [file.name for file in parameters.files["paint"]] == [None]
    again = drawn_again(parameters, pipeline.bundle, None, None, {"paint": half_map()})
    assert pipeline(again.prompt, **again.options).latents.tobytes() == output.latents.tobytes()
    with pytest.raises(InputError, match=r"paint \(--paint\): expected what the picture was drawn from"):
        drawn_again(parameters, pipeline.bundle, None, None, {})


def test_the_command_line_takes_it(tmp_path):
    @click.command()
    @run_keywords()
    def drawn(**values):
        found.update(given_keywords(taken, values))

    (tmp_path / "colours.json").write_text(json.dumps(WORDS), "utf-8")
    for name, array in (("map.png", half_map()), ("mask.png", mask())):
        Image.fromarray(array).save(tmp_path / name)
    found, taken = {}, {"paint", "paint_words", "regions", "paint_strength", "paint_form"}
    line = ["--paint", str(tmp_path / "map.png"), "--words", str(tmp_path / "colours.json"), "--paint-form", "std"]
    line += ["--region", f"{tmp_path / 'mask.png'}:red:1.2", "--region", f"{tmp_path / 'mask.png'}:apple"]
    outcome = CliRunner().invoke(drawn, line)
    assert outcome.exit_code == 0, outcome.output
    assert found["paint_words"] == WORDS and len(found["regions"]) == 2 and found["paint_form"] == "std"
    # Where a subject's embeddings are counted by the same spelling, a number is their count.
    taken = {*taken, "words"}
    found.clear()
    assert CliRunner().invoke(drawn, ["--words", "3"]).exit_code == 0 and found == {"words": 3}
    found.clear()
    assert CliRunner().invoke(drawn, ["--words", str(tmp_path / "colours.json")]).exit_code == 0
    assert found == {"paint_words": WORDS}
    for names in (["words"], ["paint_words"], ["words", "paint_words"], []):
        taken = set(names)
        found.clear()
        assert CliRunner().invoke(drawn, []).exit_code == 0 and not found
    taken = {"words"}
    assert "words: expected a whole number, got 'many'" in str(CliRunner().invoke(drawn, ["--words", "many"]).exception)


def test_a_manifest_keeps_it_and_inspect_shows_it():
    whole = painted_plan()
    assert decode(Plan, encode(whole), "plan") == whole
    assert any(
        "painted words, in cells of 8, 32 pixels a side, by denoiser.paint" in line for line in plan_lines(whole, set())
    )
    assert any("denoiser.paint, found none" in line for line in whole.problems({"encoder", "denoiser"}))


def test_a_plan_of_one_painted_graph_is_read():
    """As revision 9 wrote it."""
    whole = painted_plan()
    old = encode(whole)
    (one,) = old["paint"].pop("graphs")
    old["paint"] |= one
    assert decode(Plan, in_this_revision({"revision": 9, "plan": old})["plan"], "plan") == whole


def test_the_parser_is_the_ports():
    for row in json.loads(golden("ediffi/pww/context_strings.json").read_text("utf-8")):
        if "error" in row:
            with pytest.raises(InputError):
                parse_words(row["text"])
            continue
        assert parse_words(row["text"]) == RegionWords(row["label"], row["weight"], row["seed"], row["sigma"])


def test_regions_as_texts():
    assert parse_region("a/mask.png:full moon:1.5:-1:3.0").words == RegionWords("full moon", 1.5, None, 3.0)
    assert parse_region("C:/mask.png:cat").words == RegionWords("cat")
    given = [("mask.png", "cat", 1.2), "other.png:dog:2:7", (mask(), "cat")]
    assert region_texts(given)[:2] == ["mask.png:cat:1.2", "other.png:dog:2:7"]
    for text in ("mask.png", "mask.png:", ":cat", "mask.png:cat:1:1.5"):
        with pytest.raises(InputError):
            parse_region(text)


@pytest.mark.parametrize(
    ("have", "size"), [((128, 96), (16, 12)), ((100, 140), (6, 9)), ((7, 5), (13, 1)), ((1, 9), (4, 4))]
)
def test_planes_are_resized_as_torch_does(have, size):
    torch = pytest.importorskip("torch")
    plane = np.random.default_rng(1).random(have).astype(np.float32)
    for ours, corners in ((corners_resized, True), (pixels_resized, False)):
        theirs = torch.nn.functional.interpolate(
            torch.from_numpy(plane)[None, None], size, mode="bilinear", align_corners=corners
        )
        assert_close(ours(plane, size), theirs[0, 0].numpy(), "painted-noise")


def test_a_blur_is_a_cut_gaussian():
    plane = np.zeros((50, 60), np.float32)
    plane[20:30, 25:40] = 1.5
    taps = np.exp(-(np.arange(-19, 20) ** 2) / (2 * 3.0**2))
    taps /= taps.sum()
    expected = np.apply_along_axis(lambda row: np.convolve(row, taps, "same"), 0, plane)
    expected = np.apply_along_axis(lambda row: np.convolve(row, taps, "same"), 1, expected)
    assert_close(blurred(plane, 3.0), expected, "painted-noise")
    assert_close(blurred(np.ones((5, 3), np.float32), 2.0), np.ones((5, 3)), "painted-noise")


def test_a_map_of_pixels_keeps_them():
    plane = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert nearest_resized(plane, (6, 8)).tolist() == np.kron(plane, np.ones((2, 2))).tolist()
    assert region_columns(np.ones((64, 64), np.float32), (8, 8), 8).tolist() == [1.0] * 64


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_tells_its_noise_level(name):
    """At a call from a level its own, elsewhere the schedule's."""
    settings = SamplerSettings(sigmas="karras") if "sigmas" in SAMPLERS[name].settings else None
    for given in (None, settings):
        sampler, seen = make_sampler(name, Schedule(), 6, given), []

        def denoise(x, timestep):
            seen.append((float(np.std(x)), timestep))  # noqa: B023
            return np.zeros_like(x)

        list(sampler.run(np.ones((1, 1, 2, 2), np.float32), denoise, lambda: np.zeros((1, 1, 2, 2), np.float32)))
        levels = [sampler.sigma_at(timestep) for _, timestep in seen]
        assert all(np.isfinite(level) and level > 0 for level in levels)
        if name not in ("plms", "ddim_compvis") and len(sampler.starts) == len(sampler.timesteps):
            for timestep, start in zip(sampler.timesteps, sampler.starts, strict=True):
                assert sampler.sigma_at(timestep) == pytest.approx(start.noise_level / start.signal, rel=1e-3)


def test_the_schedules_level_stands_between_whole_timesteps():
    sampler, trained = make_sampler("ddim", Schedule(), 7), training_sigmas(Schedule())
    assert sampler.sigma_at(500.0) == pytest.approx(float(trained[500]))
    assert trained[500] < sampler.sigma_at(500.5) < trained[501]


def test_the_forms():
    for form, (maximum, deviation) in {"max": (0.2, 0), "std": (0, 0.2), "std_sq": (0, 0.2)}.items():
        gains = PaintGains(0.2, form).at(3.0, 2)
        level = np.log1p(9.0 if form == "std_sq" else 3.0)
        assert_close(np.stack(gains), np.array([[maximum] * 2, [deviation] * 2]) * level, "metric")


def test_its_engine_serves_the_sizes_of_its_maps(tmp_path):
    asked = painted_plan()
    graphs = {name: toy_graph(asked, name) for name in ("encoder", "translator.French", "decoder", "denoiser")}
    denoiser = graphs["denoiser"]
    painted = {"painted.1": ("batch", "cells_1", "tokens"), "painted.4": ("batch", "cells_4", "tokens")}
    painted |= {"gain_max": ("batch",), "gain_deviation": ("batch",), "key_bias": ("batch", "tokens")}
    key = replace(denoiser.inputs[0], name="key.down", shape=("batch", "tokens"))
    own = [replace(each, name="key.down") if each.name == "context" else each for each in denoiser.inputs]
    more = [replace(key, name=name, shape=shape) for name, shape in painted.items()]
    segments = tuple(replace(each, context={"key.down": "context"}) for each in asked.latents.segments)
    asked = replace(asked, processes=(replace(asked.latents, segments=segments),))
    graphs["denoiser"] = replace(denoiser, inputs=tuple(own))
    graphs["denoiser.paint"] = replace(denoiser, inputs=(*own, *more))
    manifest = Manifest("toy", asked, graphs, {})
    assert "denoiser.paint" not in shape_ranges(manifest)
    ranges = shape_ranges(manifest, [(48, 40), (64, 64)], paint=True)["denoiser.paint"]
    assert ranges["cells_1"] == (30, 30, 64) and ranges["cells_4"] == (4, 4, 4)


def test_editors_know_its_keywords():
    assert {"paint", "paint_words", "regions", "paint_strength", "paint_form"} <= RunOptions.__annotations__.keys()
