"""The judge of the embedded bundles, on pictures as they should be drawn, and on others."""

from types import SimpleNamespace

import numpy as np
import pytest
from x2i.emoji.eval_prompts import PROMPTS_OF, eval_prompts
from x2i.emoji.gate import EmojiJudge, judged, score
from x2i.emoji.tokens.caption_judge import held_out_scenes
from x2i.emoji.world.captions import caption
from x2i.emoji.world.pairs import pair_scene, pairs
from x2i.emoji.world.subjects import subject_keys, subject_scene
from x2i.emoji.world.vocabulary import backgrounds, languages, picture_keys, scene
from x2i.export.errors import PlanError
from x2i.export.judge import find_judge
from x2i.runtime.bundle.reader import open_bundle

COLOURS = [background.key for background in backgrounds()] * 8


def ideal(system):
    """What a system that makes no mistake draws, or says."""
    if system == "ddcap":
        return [caption("English", key, colour) for key, colour, _ in held_out_scenes()]
    if system == "elite":
        return [subject_scene(key, colour) for key, colour in zip(subject_keys(), COLOURS, strict=True)]
    if system == "fastcomposer":
        return [pair_scene(pair) for pair in pairs()]
    if system == "gluegen-sound":
        return [scene(key) for key in picture_keys()]
    return [scene(key, colour) for key, colour in zip(picture_keys(), COLOURS, strict=True)]


@pytest.mark.parametrize("system", PROMPTS_OF)
def test_right_pictures_are_right_and_noise_is_not(system):
    prompts = eval_prompts(system)[::4]
    true = score(ideal(system)[::4], prompts)
    noise = list(np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3)).astype(np.uint8))
    if system == "ddcap":
        noise = ["a thing on a"] * 16
    found = judged(prompts, true, score(noise, prompts))
    assert true.correct.all() and found.drawings == 16
    assert not found.passed and found.lost > 90
    assert all(c.fp32_accuracy == 1 and c.accuracy < 0.5 for c in found.categories)
    clip, fp32_clip = (
        np.mean([getattr(c, name) for c in found.categories]) for name in ("clip_score", "fp32_clip_score")
    )
    assert clip < fp32_clip - 0.1
    assert judged(prompts, true, true).passed and judged(prompts, true, true).lost == 0


@pytest.fixture
def no_clip(monkeypatch):
    monkeypatch.setattr("x2i.emoji.gate.clip_scores", lambda pictures, captions: np.zeros(len(captions)))


@pytest.mark.parametrize("wrong", [1, 2])
def test_of_64_drawings_one_may_go_wrong(wrong, no_clip):
    """A 64th is 1.6 points; a picture on another background is wrong as well."""
    prompts, drawings = eval_prompts("sd"), ideal("sd")
    true = score(drawings, prompts)
    spoilt = [scene(picture_keys()[k], COLOURS[k + 1]) for k in range(wrong)] + drawings[wrong:]
    found = judged(prompts, true, score(spoilt, prompts))
    assert found.lost == pytest.approx(100 * wrong / 64) and found.passed == (wrong == 1)


def test_every_language_takes_its_turn():
    prompts = eval_prompts("gluegen-text")
    assert [prompt.options["language"] for prompt in prompts[:8]] == list(languages())
    assert prompts[1].caption == caption("English", "banana", COLOURS[1]) != prompts[1].options["prompt"]
    assert len({prompt.options["seed"] for prompt in prompts}) == 64 and len(eval_prompts("sd", each=3)) == 192


def test_an_encoder_in_the_place_of_a_language_reads_english():
    prompts = eval_prompts("gluegen-text", named=("T5",))
    assert {prompt.options["language"] for prompt in prompts} == {"T5"} and len(prompts) == 64
    assert all(prompt.options["prompt"] == prompt.caption for prompt in prompts)
    assert eval_prompts("gluegen-text", named=("T5", "German"))[0].options["language"] == "English"


def test_both_bundles_draw_the_same_runs(no_clip):
    """What fp32 draws right and the other does not is lost."""
    runs = {"fp32": [], "int8": []}

    def drawing(name):
        def draw(**options):
            number = len(runs[name])
            runs[name].append(options)
            picture = ideal("sd")[number if name == "fp32" or number < 60 else number - 1]
            return SimpleNamespace(images=[picture])

        return draw

    canvas = SimpleNamespace(size=(64, 64))
    plan = SimpleNamespace(process=SimpleNamespace(canvas=canvas), find=lambda kind: None)
    manifest = SimpleNamespace(system="sd", plan=plan, languages=())
    found = find_judge("emoji").against(manifest, drawing("fp32"))(drawing("int8"))
    assert runs["fp32"] == runs["int8"] == EmojiJudge().runs(manifest) and found.lost == pytest.approx(100 * 4 / 64)


def test_other_bundles_are_refused(tiny_bundle):
    with pytest.raises(PlanError, match="judge: the emoji judge expects the embedded models' pictures of 64x64"):
        find_judge("emoji").runs(open_bundle(tiny_bundle).manifest)
    with pytest.raises(PlanError, match="judge: expected one of the systems sd, gluegen-text"):
        eval_prompts("ip-adapter")
