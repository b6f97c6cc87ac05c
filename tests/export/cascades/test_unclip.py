"""unCLIP from Karlo's folder, exported and run without torch, against every recorded network and run."""

import json
import shutil
from functools import cache

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from x2i.export.cascades.unclip import build_unclip
from x2i.export.cascades.unclip_networks import enlarged_component
from x2i.export.exporter import export_bundle
from x2i.export.lower.calibration import record_calibration
from x2i.export.plan import ExportPlan
from x2i.models.errors import CheckpointError
from x2i.models.random.cascades.unclip import random_karlo
from x2i.models.unclip.karlo import read_karlo
from x2i.runtime.bundle.cfg_batch import cfg_batch_sizes
from x2i.runtime.bundle.plan import UNCONDITIONAL
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.cli import main
from x2i.runtime.engines.shape_ranges import shape_ranges
from x2i.runtime.errors import InputError
from x2i.runtime.gate.metrics import relative_l2
from x2i.runtime.load import load
from x2i.runtime.media.clip_pixels import clip_pixels
from x2i.runtime.processes.denoiser import Denoiser
from x2i.runtime.samplers.registry import make_sampler
from x2i.runtime.samplers.schedule import Schedule, alphas_cumprod, training_betas
from x2i.runtime.samplers.settings import SamplerSettings
from x2i.runtime.server.models.capabilities import bundle_capabilities
from x2i.runtime.server.settings import ServerLimits
from x2i.runtime.sessions.backends import open_session

from tests.bundles import tiny
from tests.export.cascades.unclip_cases import HOME, case_names, unclip_bundle, unclip_case
from tests.goldens import golden, golden_arrays
from tests.numerics import TOLERANCES, assert_close, assert_near, assert_same_picture

CASES = pytest.mark.parametrize("name", case_names() or ["none"])
COSINE = "squaredcos_cap_v2"
STAGES = {
    "prior": (Schedule(beta_schedule=COSINE, prediction_type="sample"), SamplerSettings(clip_sample_range=5.0)),
    "decoder": (Schedule(beta_schedule=COSINE), SamplerSettings(variance_type="learned_range")),
    "super_res": (Schedule(beta_schedule=COSINE), SamplerSettings()),
}
TEXTS = ("text_embeds", "text_states", "attention_mask")


@cache
def pipeline():
    return load(unclip_bundle(), "cpu")


def walked(case):
    """Each process's states behind its steps, and the output."""
    walk, states, last = pipeline().steps(case.prompt, **case.options), [], None
    for step in walk:
        states.append(step.state)
        last = step
    counts = [len(case.arrays[f"{stage}_timesteps"]) for stage in STAGES if f"{stage}_timesteps" in case.arrays]
    parts = np.split(np.arange(len(states)), np.cumsum(counts)[:-1])
    return [[states[number] for number in part] for part in parts], walk.slots, walk.finish(last)


@CASES
def test_a_run_is_the_recorded_one(name):
    case = unclip_case(name)
    arrays = case.arrays
    parts, slots, output = walked(case)
    stages = [stage for stage in STAGES if f"{stage}_after_step" in arrays]
    for stage, part in zip(stages, parts, strict=True):
        for state, expected in zip(part, arrays[f"{stage}_after_step"], strict=True):
            assert_near(state, expected, "unclip-run")
    assert_near(slots["image_embedding"], arrays["image_embeddings"], "unclip-run")
    assert_near(slots["enlarged"], arrays["image_upscaled"], "unclip-run")
    # Nothing of the order of the context shows in a picture.
    sides = len(arrays["decoder_context"])
    for ours, theirs in (("context", "decoder_context"), ("added", "decoder_time_add"), ("read", "decoder_mask")):
        assert_near(slots[ours][-sides:], arrays[theirs][-len(slots[ours]) :].astype(np.float32), "unclip-run")
    for drawn, expected in zip(output.images, arrays["image_u8"], strict=True):
        assert_same_picture(np.asarray(drawn), expected, share=0.1)


def test_the_graphs_are_the_recorded_networks():
    nets, session = golden_arrays(f"{HOME}/nets.npz"), pipeline().session
    text = session("text_encoder")(input_ids=nets["input_ids"])
    assert_close(text["text_embeds"], nets["text_embeds"], "unclip-net")
    assert_close(text["text_states"], nets["text_hidden"], "unclip-net")
    assert_close(
        session("image_encoder")(pixels=nets["pixel_values"])["image_embedding"], nets["image_embeds"], "unclip-net"
    )
    texts = {"text_embeds": nets["text_embeds"], "text_states": nets["text_hidden"]}
    texts["attention_mask"] = nets["attention_mask"].astype(np.int64)
    for timestep in (999, 432, 0):
        given = {"vectors": nets["prior_x"], "timestep": np.full(3, timestep, np.float32)}
        assert_close(session("prior")(**given, **texts)["predicted"], nets[f"prior_t{timestep}"], "unclip-net")
    post = session("prior_tail")(vectors=nets["prior_x"])["written"]
    assert post.shape == nets["prior_post_processed"].shape
    plain = decoder_context(texts, nets["tp_image_embeddings"], [False, False], [0, 1])
    assert_close(plain["context"], nets["tp_context_plain"], "unclip-net")
    assert_close(plain["added"], nets["tp_time_add_plain"], "unclip-net")
    rows, steered = [2, 2, 0, 1], [True, True, False, False]
    guided = decoder_context(texts, np.tile(nets["tp_image_embeddings"], (2, 1)), steered, rows)
    assert_close(guided["context"], nets["tp_context_cfg"], "unclip-net")
    assert_close(guided["added"], nets["tp_time_add_cfg"], "unclip-net")
    for shape in ("square", "nonsquare"):
        for timestep in (999, 500, 0):
            given = {"latents": nets[f"decoder_{shape}_x"], "timestep": np.full(2, timestep, np.float32)}
            made = session("denoiser")(**given, **plain)
            both = np.concatenate([made["noise"], made["variance"]], axis=1)
            assert_close(both, nets[f"decoder_{shape}_t{timestep}"], "unclip-net")
        for number, graph in enumerate(("super_resolution", "super_resolution_last")):
            for timestep in (999, 0):
                x, enlarged = np.split(nets[f"super_res_{shape}_x"], 2, axis=1)
                given = {"latents": x, "enlarged": enlarged, "timestep": np.full(len(x), timestep, np.float32)}
                expected = nets[f"super_res_{number}_{shape}_t{timestep}"]
                assert_close(session(graph)(**given)["noise"], expected, "unclip-net")


def test_a_picture_is_enlarged_as_recorded():
    nets = golden_arrays(f"{HOME}/nets.npz")
    small, large = nets["bicubic_up2_x"], nets["bicubic_up2_y"]
    enlarge = enlarged_component(small.shape[2], large.shape[2]).module
    scale = np.abs(small).max()
    assert_close(enlarge(torch.from_numpy(small / scale)).numpy() * scale, large, "unclip-net")


def decoder_context(texts, embeddings, steered, rows):
    given = {name: texts[name][rows] for name in TEXTS}
    return pipeline().session("decoder_context")(image_embedding=embeddings, unconditional=np.array(steered), **given)


def test_schedules_are_the_recorded_ones():
    recorded = golden_arrays(f"{HOME}/scheduler.npz")
    schedule = STAGES["decoder"][0]
    assert_close(training_betas(schedule), recorded["betas"], "exact")
    assert_close(alphas_cumprod(schedule), recorded["alphas_cumprod"], "exact")
    for stage, (own, settings) in STAGES.items():
        for steps in (2, 3, 5, 7, 25):
            sampler = make_sampler("unclip", own, steps, settings)
            assert_close(np.array(sampler.timesteps), recorded[f"{stage}_{steps}_timesteps"].astype(float), "exact")


@pytest.mark.parametrize("stage", STAGES)
def test_a_sampler_fed_with_the_recorded_predictions(stage):
    """By float32 scalars: doubles would be off by 8e-4."""
    arrays = unclip_case("text_b1").arrays
    schedule, settings = STAGES[stage]
    sampler = make_sampler("unclip", schedule, len(arrays[f"{stage}_timesteps"]), settings)
    draws = iter(arrays[f"{stage}_noise"])
    predictions = iter(guided(stage, arrays, unclip_case("text_b1").settings))
    walk = sampler.run(arrays[f"{stage}_initial"], lambda x, timestep: next(predictions), lambda: next(draws))
    for state, expected in zip(walk, arrays[f"{stage}_after_step"], strict=True):
        assert_close(state, expected, "unclip-sampler")


def guided(stage, arrays, settings):
    if stage != "decoder":
        return arrays["prior_guided" if stage == "prior" else "super_res_net_out"]
    unconditional, conditional = np.split(arrays["decoder_net_out"], 2, axis=1)
    scale = np.float32(settings["decoder_guidance"])
    noise = unconditional[:, :, :3] + scale * (conditional - unconditional)[:, :, :3]
    return np.concatenate([noise, conditional[:, :, 3:]], axis=2)


def test_pictures_are_made_ready_as_recorded():
    recorded = golden_arrays(f"{HOME}/images/preprocess.npz")
    names = [name.removesuffix("_pixel_values") for name in recorded if name.endswith("_pixel_values")]
    for name in names:
        pixels = clip_pixels([Image.fromarray(recorded[f"{name}_u8"])], 32)
        assert_close(pixels, recorded[f"{name}_pixel_values"], "pixels")


def test_every_input_of_every_graph_matters():
    """Of the tiny random weights, too."""
    session_of = load(tiny("unclip"), "cpu")
    rng = np.random.default_rng(0)
    for graph, facts in session_of.bundle.manifest.graphs.items():
        session, sizes = session_of.session(graph), {}
        given = {tensor.name: sample(rng, tensor, sizes) for tensor in facts.inputs}
        plain = session(**given)
        for name, array in given.items():
            other = session(**given | {name: changed(array)})
            assert any(not np.allclose(other[out], plain[out]) for out in plain), (graph, name)


def sample(rng, tensor, sizes):
    shape = tuple(size if isinstance(size, int) else 2 if size == "batch" else 8 for size in tensor.shape)
    if tensor.dtype == "bool":
        return np.array([True, False])
    if tensor.name == "input_ids":
        return rng.integers(4, 200, shape)
    if tensor.dtype == "int64":
        return (np.arange(shape[1])[None].repeat(shape[0], 0) < 5).astype(np.int64)
    if tensor.name == "timestep":
        return np.full(shape, 400, np.float32)
    return np.ones(shape, np.float32) if tensor.name == "read" else rng.standard_normal(shape).astype(np.float32)


def changed(array):
    if array.dtype == bool:
        return ~array
    return array * 0 if array.dtype == np.int64 else (array[::-1] + 1).astype(array.dtype)


MISTAKES = {
    "a prompt's half of the guidance without the learned vector": "text_b1",
    "the last step by the first network": "text_b1",
    "the variance of both halves, guided": "text_b1",
    "the mask left out": "text_b2",
}


@pytest.mark.parametrize(("mistake", "name"), MISTAKES.items(), ids=MISTAKES)
def test_a_mistake_is_noticed(mistake, name, monkeypatch):
    if not case_names():
        pytest.skip("the goldens of unCLIP are not here")
    case = unclip_case(name)
    right = pipeline()(case.prompt, **case.options).latents
    monkeypatch.setattr(Denoiser, "__init__", mistaken(Denoiser.__init__, mistake))
    wrong = pipeline()(case.prompt, **case.options).latents
    assert relative_l2(wrong, right) > 2 * TOLERANCES["unclip-run"].relative


def mistaken(init, mistake):
    """The denoiser of a run in which something is done wrong on purpose."""

    def changed_init(self, process, session, slots, *others):
        slots = dict(slots)
        if mistake.startswith("a prompt's") and "context" in slots:
            half = len(slots["context"]) // 2
            slots["context"] = np.concatenate([slots["context"][half:]] * 2)
        if mistake.startswith("the mask") and "read" in slots:
            slots["read"] = np.ones_like(slots["read"])
        if mistake.startswith("the last"):
            plain = session
            session = lambda graph: plain(graph.removesuffix("_last"))  # noqa: E731
        init(self, process, session, slots, *others)
        if mistake.startswith("the variance"):
            kept = self._process.guidance

            class Guided(type(kept)):
                def combined(self, prediction, rows, scale, output=""):
                    return kept.combined(prediction, rows, scale)

            object.__setattr__(self, "_process", _Process(self._process, Guided(kept.scale)))

    return changed_init


class _Process:
    """A process with another guidance."""

    def __init__(self, process, guidance):
        self._kept, self.guidance = process, guidance

    def __getattr__(self, name):
        return getattr(self._kept, name)


@pytest.fixture(scope="module")
def random_bundle():
    return tiny("unclip")


def run(*words):
    return CliRunner().invoke(main, list(map(str, words)))


def test_the_commands(random_bundle, tmp_path):
    shown = run("inspect", random_bundle)
    assert shown.exit_code == 0
    assert "set by prior_steps, prior_guidance" in shown.output and "its last state -> image_embedding" in shown.output
    assert "then once a picture" in shown.output and "the pixels themselves, 20x20, round to bytes" in shown.output
    few = ("--steps", 3, "--prior-steps", 2, "--super-resolution-steps", 2)
    drawn = run("run", random_bundle, "a red apple", *few, "--count", 2, "--seed", 5, "--out", tmp_path / "a.png")
    assert drawn.exit_code == 0, drawn.output
    alone = run("run", random_bundle, "a red apple", *few, "--seed", 6, "--out", tmp_path / "b.png")
    assert alone.exit_code == 0, alone.output
    assert_same_picture(*(np.asarray(Image.open(tmp_path / name)) for name in ("a-2.png", "b.png")))
    Image.new("RGB", (50, 40), "red").save(tmp_path / "photo.png")
    varied = run("run", random_bundle, "--image", tmp_path / "photo.png", *few, "--out", tmp_path / "c.png")
    assert varied.exit_code == 0, varied.output
    again = run(
        "run",
        random_bundle,
        "--again",
        tmp_path / "c.png",
        "--image",
        tmp_path / "photo.png",
        "--out",
        tmp_path / "d.png",
    )
    assert again.exit_code == 0, again.output
    assert_same_picture(*(np.asarray(Image.open(tmp_path / name)) for name in ("c.png", "d.png")))


def test_every_option_changes_the_picture(random_bundle):
    draw = load(random_bundle, "cpu")
    few = {"steps": 3, "prior_steps": 3, "super_resolution_steps": 3, "seed": 1}
    plain = draw("a red apple", **few).latents
    for other in (
        {"prior_steps": 4},
        {"steps": 4},
        {"super_resolution_steps": 4},
        {"prior_guidance": 1.0},
        {"guidance": 1.0},
        {"negative": "green"},
        {"seed": 2},
    ):
        assert np.abs(draw("a red apple", **few | other).latents - plain).max() > 1e-3, other
    photo = Image.new("RGB", (30, 30), "blue")
    varied = draw(image=photo, **few).latents
    assert np.abs(varied - plain).max() > 1e-3
    embedding = draw.session("image_encoder")(pixels=clip_pixels([photo], 28))["image_embedding"]
    assert_close(draw(image_embedding=embedding, **few).latents, varied, "exact")
    both = draw(["a red apple", "a blue house"], **few)
    assert_close(both.latents[0], plain[0], "batched-latents")


def test_what_is_not_read_is_not_called(random_bundle):
    """The prior of a variation, and the picture's encoder of a prompt; both halves of a guidance of 1."""
    draw = load(random_bundle, "cpu", openers=0) if "openers" in load.__annotations__ else load(random_bundle, "cpu")
    few = {"steps": 2, "prior_steps": 2, "super_resolution_steps": 2}
    called = draw(image=Image.new("RGB", (30, 30), "blue"), **few).graphs
    assert "prior" not in called and called.count("super_resolution") == called.count("super_resolution_last") == 1
    assert draw("a red apple", **few).graphs.count("prior") == 2


@pytest.mark.parametrize(
    ("prompt", "options", "said"),
    [
        (None, {}, "image: expected a prompt, or one image, or its embedding, got none; give one"),
        ("a", {"image": Image.new("RGB", (9, 9))}, "got several; give one"),
        (None, {"image_embedding": np.zeros((1, 5), np.float32)}, "image_embedding: expected float32"),
        (None, {"image_embedding": np.full((1, 48), np.nan, np.float32)}, "of finite numbers"),
        ("a", {"prior_steps": 1}, "prior_steps: expected a whole number from 2"),
        ("a", {"prior_steps": 2000}, "prior_steps: expected a whole number from 1 to 1000"),
        ("a", {"super_resolution_steps": 2000}, "super_resolution_steps: expected a whole number from 1 to 1000"),
        ("a", {"prior_steps": 10**5000}, "prior_steps: expected a whole number from 2 to 10000, got a value of int"),
        ("a", {"steps": 1}, "steps: expected 2 or more for the sampler unclip"),
        ("a", {"sampler": "ddim"}, "sampler: this bundle has one of its own, unclip, got 'ddim'; leave it out"),
        ("a", {"eta": 0.5}, "eta: the sampler unclip reads none"),
        ("a", {"size": (40, 40)}, "size: expected 20x20, the only size of this bundle"),
        ("a", {"noise": np.zeros((1, 3, 20, 20), np.float32)}, "noise: expected float32"),
        ("a", {"noise": {"prior_noise": np.zeros((1, 1, 7), np.float32)}}, "for prior_noise"),
        ("a", {"start": Image.new("RGB", (9, 9))}, "start: this bundle takes none"),
    ],
)
def test_bad_input_is_refused(random_bundle, prompt, options, said):
    with pytest.raises(InputError, match=said.replace("(", r"\(")):
        load(random_bundle, "cpu")(prompt, **options)


def test_a_release_for_variations_alone_has_no_prior(tmp_path):
    folder = copied(tmp_path)
    for part in ("prior", "prior_scheduler"):
        shutil.rmtree(folder / part)
    karlo = read_karlo(folder)
    assert karlo.prior is None and karlo.vision is not None
    export_bundle(ExportPlan("unclip", tmp_path / "out", base=str(folder), licences=("none: random",)))
    draw, case = load(tmp_path / "out", "cpu"), unclip_case("variation_b1")
    assert_same_picture(np.asarray(draw(**case.options).images[0]), case.arrays["image_u8"][0])
    with pytest.raises(InputError, match="expected one image, or its embedding, got a prompt"):
        draw("a red apple")


def test_a_release_for_prompts_alone_has_no_image_encoder(tmp_path):
    folder = copied(tmp_path)
    for part in ("image_encoder", "feature_extractor"):
        shutil.rmtree(folder / part)
    build = build_unclip(ExportPlan("unclip", tmp_path / "out", base=str(folder)))
    assert {component.name for component in build.components}.isdisjoint({"image_encoder"})
    assert not any(name in ("image", "image_embedding") for name in build.plan.options())


def copied(tmp_path):
    folder = tmp_path / "karlo"
    shutil.copytree(golden(f"{HOME}/model"), folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


def edited(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_does_not_fit_is_refused_at_once(tmp_path):
    folder = copied(tmp_path)
    edited(folder / "decoder_scheduler" / "scheduler_config.json", variance_type="fixed_small", thresholding=True)
    edited(folder / "prior_scheduler" / "scheduler_config.json", _class_name="DDPMScheduler")
    edited(folder / "decoder" / "config.json", class_embed_type="timestep")
    edited(folder / "feature_extractor" / "preprocessor_config.json", resample=2)
    with pytest.raises(CheckpointError) as told:
        read_karlo(folder)
    for said in (
        "expected variance_type 'learned_range', got 'fixed_small'",
        "expected settings of Karlo's classes, got unknown 'thresholding'",
        "expected _class_name 'UnCLIPScheduler', got 'DDPMScheduler'",
        "expected class_embed_type 'identity', got 'timestep'",
        "expected resample 3, got 2",
    ):
        assert said in str(told.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="expected prior/ to draw from prompts, or image_encoder/ to vary"):
        read_karlo(tmp_path / "empty")


def test_widths_of_two_releases_are_told(tmp_path):
    folder = copied(tmp_path)
    edited(folder / "prior" / "config.json", num_embeddings=60)
    edited(folder / "text_proj" / "config.json", cross_attention_dim=40)
    with pytest.raises(CheckpointError) as told:
        read_karlo(folder)
    assert "prior: num_embeddings 77" in str(told.value) and "decoder: cross_attention_dim 40" in str(told.value)


def test_options_of_a_stable_diffusion_base_are_refused(tmp_path):
    words = ("--random-weights", "tiny", "--steps", 5, "--sampler", "ddim", "--few-step", "lcm")
    told = run("export", "unclip", tmp_path / "out", *words)
    assert told.exit_code == 2 and not (tmp_path / "out").exists()
    for name in ("--steps", "--sampler", "--few-step"):
        assert f"{name}: this system is sampled as its own checkpoint says; leave it out" in told.output


def test_random_weights_of_another_size():
    with pytest.raises(CheckpointError, match="expected karlo or tiny"):
        random_karlo("huge")


def test_under_a_memory_limit_the_same_picture(random_bundle):
    """Its graphs are opened one after the other."""
    few = {"steps": 2, "prior_steps": 2, "super_resolution_steps": 2, "seed": 3}
    free, limited = load(random_bundle, "cpu"), load(random_bundle, "cpu", max_memory="2GB")
    assert_close(limited("a red apple", **few).latents, free("a red apple", **few).latents, "batched-latents")


def test_the_slot_of_the_side_that_is_steered_away_from(random_bundle):
    """A negative prompt changes what that side says, not which side it is."""
    draw = load(random_bundle, "cpu")
    few = {"steps": 2, "prior_steps": 2, "super_resolution_steps": 2}
    for negative in ("", "green"):
        walk = draw.steps("a red apple", negative=negative, **few)
        list(walk)
        assert walk.slots[UNCONDITIONAL].tolist() == [True, False]


def test_the_recorded_draws_are_read_to_the_end(random_bundle):
    few = {"steps": 3, "prior_steps": 2, "super_resolution_steps": 2}
    with pytest.raises(InputError, match="expected more than 1 draws named step_noise"):
        load(random_bundle, "cpu")("a", noise={"step_noise": np.zeros((1, 1, 3, 12, 12), np.float32)}, **few)


def test_every_network_of_every_stage_is_calibrated(random_bundle, tmp_path):
    """The last step's too, which is called once a run; ranges come from calls over the whole of each stage."""
    bundle = open_bundle(random_bundle)
    few = {"prompt": "a red apple", "steps": 6, "prior_steps": 5, "super_resolution_steps": 3}

    def opened(graph):
        return open_session("cpu", bundle.graph_file(graph))

    recorded = record_calibration(bundle, opened, [few], tmp_path)
    counts = {graph: len(calls) for graph, calls in recorded.items()}
    assert counts["prior"] == 4 and counts["denoiser"] == 4
    assert counts["super_resolution"] + counts["super_resolution_last"] == 3
    varied = record_calibration(bundle, opened, [{"image": Image.new("RGB", (9, 9)), "steps": 3}], tmp_path / "varied")
    assert not len(varied["prior"]) and len(varied["super_resolution_last"]) == 1


def test_the_calls_own_options_are_the_decoders(random_bundle, tmp_path):
    """Wherever steps and guidance are told, counted or set, and not those of the last stage."""
    manifest = open_bundle(random_bundle).manifest
    set_at_export = ExportPlan("unclip", tmp_path, guidance=3.0).with_defaults(manifest.plan)
    assert [process.guidance.scale for process in set_at_export.processes] == [4.0, 3.0, 1.0]
    told = bundle_capabilities("unclip", manifest, ServerLimits(), loaded=False)
    assert (told["steps"], told["guidance"], told["size"]["height"]) == (25, 8.0, 20)
    assert cfg_batch_sizes(manifest.plan, "denoiser") == (2,)
    rows = {graph: ranges["batch"] for graph, ranges in shape_ranges(manifest, count=3).items()}
    assert rows["prior"] == rows["denoiser"] == (1, 6, 6) and rows["super_resolution"] == (1, 3, 3)
