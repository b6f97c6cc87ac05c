"""The gate on numpy stand-ins for the networks: it lets the same pictures through, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from x2i.runtime.bundle.manifest import Manifest
from x2i.runtime.bundle.records import decode, encode
from x2i.runtime.errors import InputError
from x2i.runtime.gate.cases import case_options, draw_case, stored_drawing
from x2i.runtime.gate.comparison import compare
from x2i.runtime.gate.record import Case, Category, Closeness, Gate, Judged, Limits
from x2i.runtime.inputs.registry import run_options
from x2i.runtime.samplers.sampler import Noise

from tests.numerics import assert_close
from tests.runtime.toy import Sessions, plan, toy_pipeline

LIMITS = Limits(0.02, 35.0, 0.98)
FILES = {"noise": "gate/noise.npy", "latents": "gate/latents.npy", "picture": "gate/picture.png"}
CASE = Case(**FILES, prompt="pomme rouge", options={"language": "French", "steps": 5})


@pytest.fixture
def toy(tmp_path):
    """Pipeline, its sessions, and a folder with the case's files as the pipeline itself draws them."""
    pipeline, sessions = toy_pipeline(tmp_path / "toy")
    (tmp_path / "gate").mkdir()
    np.save(tmp_path / CASE.noise, Noise(0, 1, (4, 6, 5))())
    drawn = draw_case(pipeline, CASE, tmp_path)
    np.save(tmp_path / CASE.latents, drawn.latents)
    Image.fromarray(drawn.picture).save(tmp_path / CASE.picture)
    return pipeline, sessions, tmp_path


def result_of(pipeline, folder, case=CASE):
    (result,) = compare(pipeline, [case], LIMITS, folder)
    return result


def test_the_same_picture_passes_as_the_same(toy):
    pipeline, _, folder = toy
    result = result_of(pipeline, folder)
    assert result.passed and result.closeness == Closeness(0.0, None, 1.0)


def test_pictures_replaced_by_noise_fail(toy):
    pipeline, sessions, folder = toy
    noise = np.random.default_rng(0).uniform(-1, 1, (1, 3, 48, 40)).astype(np.float32)
    sessions.decoder = lambda graph, latents: {"image": noise}
    problems = result_of(pipeline, folder).problems
    assert len(problems) == 2 and "PSNR" in problems[0] and "SSIM" in problems[1]


def test_latents_replaced_by_noise_fail(toy):
    pipeline, sessions, folder = toy
    rng = np.random.default_rng(0)
    sessions.denoiser = lambda graph, latents, **_: {"noise": rng.standard_normal(latents.shape).astype(np.float32)}
    problems = result_of(pipeline, folder).problems
    assert len(problems) == 3 and "latents differ by" in problems[0]


def test_another_start_fails(toy):
    pipeline, _, folder = toy
    np.save(folder / CASE.noise, Noise(1, 1, (4, 6, 5))())
    assert len(result_of(pipeline, folder).problems) == 3


def test_another_prompt_and_another_language_fail(toy):
    pipeline, _, folder = toy
    for change in ({"prompt": "blue"}, {"options": CASE.options | {"language": "German"}}):
        assert not result_of(pipeline, folder, replace(CASE, **change)).passed


@pytest.mark.parametrize("graph", ["denoiser", "decoder"])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_nan_fails(toy, graph):
    pipeline, sessions, folder = toy
    name = {"denoiser": "noise", "decoder": "image"}[graph]
    honest = getattr(Sessions, graph)

    def spoilt(*arguments, **arrays):
        return {name: honest(sessions, *arguments, **arrays)[name] * np.float32(np.nan)}

    setattr(sessions, graph, spoilt)
    assert not result_of(pipeline, folder).passed


def test_what_cannot_be_drawn_fails_with_the_reason(toy):
    pipeline, _, folder = toy
    result = result_of(pipeline, folder, replace(CASE, options={"language": "Klingon"}))
    assert result.closeness is None and result.problems[0].startswith("case 0: language: expected one of")


def test_a_reference_of_another_size_is_refused(toy):
    pipeline, _, folder = toy
    np.save(folder / CASE.noise, Noise(0, 1, (4, 5, 6))())
    with pytest.raises(InputError, match="as fp32 drew it"):
        result_of(pipeline, folder)


def test_a_damaged_reference_is_refused(toy):
    pipeline, _, folder = toy
    (folder / CASE.latents).write_bytes((folder / CASE.latents).read_bytes()[:-8])
    with pytest.raises(InputError, match=r"latents\.npy: expected an array of the gate"):
        result_of(pipeline, folder)


def test_cases_keep_every_option_of_a_run():
    """All but a prompt of another bundle to mix in, how many pictures there are, ways to draw them with less, weights
    and masks of the caller's own, items, which name files within texts, an embedding in a picture's place, and tokens
    to begin with, which decide the size."""
    others = {"count", "mix", "preset", "tokens", "lora", "embedding", "regions", "image_embedding", "items"}
    others.add("negative_items")
    own = {"latents", "picture", "rate", "states"}
    assert Case.key_types().keys() - own == {"prompt", *run_options()} - others


def test_files_become_what_a_run_takes(tmp_path):
    np.save(tmp_path / "n.npy", np.zeros((1, 4, 2, 2), np.float32))
    np.save(tmp_path / "s.npy", np.arange(6, dtype=np.int16).reshape(3, 2))
    files = {"noise": "n.npy", "latents": "l.npy", "picture": "p.png"}
    np.save(tmp_path / "m.npy", np.ones((2, 5), np.float32))
    given = {"subject": "a.png", "subjects": ("b.png", "c.png"), "sound": "s.npy", "motion": "m.npy"}
    case = Case(**files, options=given, rate=16000)
    taken = case_options(case, tmp_path)
    assert set(taken) == {"noise", "subject", "subjects", "sound", "motion"} and taken["motion"].shape == (2, 5)
    assert taken["subject"] == tmp_path / "a.png" and taken["subjects"] == [tmp_path / "b.png", tmp_path / "c.png"]
    assert taken["sound"][0].shape == (3, 2) and taken["sound"][1] == 16000
    assert case.files() == ["n.npy", "l.npy", "p.png", "a.png", "b.png", "c.png", "s.npy", "m.npy"]


def test_a_picture_is_read_back_as_it_was_drawn(toy):
    pipeline, _, folder = toy
    assert_close(stored_drawing(CASE, folder).picture, draw_case(pipeline, CASE, folder).picture, "exact")


def judged(fp32, lowered):
    """Two kinds of drawings, of which `lowered` and `fp32` are the right ones among 50 each."""
    return Judged(
        "the nearest picture",
        tuple(
            Category(f"kind {k}", 50, a / 50, b / 50, 0.5, 0.4)
            for k, (a, b) in enumerate(zip(fp32, lowered, strict=True))
        ),
    )


def test_two_points_may_be_lost_over_all():
    assert judged((50, 40), (48, 40)).passed and judged((50, 40), (44, 46)).passed
    assert not judged((50, 40), (47, 40)).passed and judged((50, 40), (47, 40)).lost == pytest.approx(3)


def test_the_record_survives_the_manifest():
    gate = Gate((CASE,), LIMITS, (Closeness(0.0, None, 1.0),), judged((50, 40), (48, 40)), ("case 0: told",))
    assert decode(Gate, encode(gate), "gate") == gate


def test_files_of_the_gate_need_digests():
    manifest = Manifest("toy", plan(), {}, {}, gate=Gate((CASE,), LIMITS, (Closeness(0.0, None, 1.0),)))
    assert sum("gate/" in problem for problem in manifest.problems()) == 3
