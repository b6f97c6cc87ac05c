import numpy as np
import pytest
from x2i.emoji.elite import subject_latents
from x2i.emoji.recipe import clip
from x2i.emoji.world import subjects, vocabulary
from x2i.emoji.world.subjects import judge_subject, subject_keys, subject_mask, subject_picture, subject_scene

SCENES = [(key, ground.key) for key in subject_keys() for ground in vocabulary.backgrounds()]


def test_64_subjects_apart_from_the_vocabulary():
    known = {entry["emoji"] for entry in vocabulary.vocabulary_table()["pictures"]}
    assert len(set(subject_keys())) == len(subjects.characters()) == 64
    assert not subjects.characters() & known and not set(subject_keys()) & set(vocabulary.picture_keys())
    held = np.stack([np.asarray(subject_picture(key), np.float32) for key in subject_keys()])
    for tile in vocabulary.pictures():
        assert np.abs(held - tile).mean((1, 2, 3)).min() > 10


@pytest.mark.parametrize("module", [clip, subject_latents], ids=["clip", "mappers"])
def test_no_stage_trains_on_a_held_out_subject(module, monkeypatch):
    everything = {*subjects.characters(), "🍎", "🐸"}
    monkeypatch.setattr(module, "wide_pictures", lambda: dict.fromkeys(everything))
    monkeypatch.setattr(clip.captions, "cldr_names", lambda: dict.fromkeys(everything, "name"))
    assert set(module.characters.__wrapped__()) == {"🍎", "🐸"}


@pytest.mark.parametrize("noise", [0, 30], ids=["clean", "noisy"])
def test_the_judge_names_every_scene(noise):
    rng = np.random.default_rng(1)
    for key, ground in SCENES:
        image = subject_scene(key, ground)
        spoilt = np.clip(image + rng.normal(0, noise, image.shape), 0, 255).astype(np.uint8)
        verdict = judge_subject(spoilt)
        assert (verdict.key, verdict.background) == (key, ground)


def test_the_judge_sees_nothing_in_noise():
    rng = np.random.default_rng(2)
    hits = [judge_subject(rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)).key == key for key, _ in SCENES]
    assert np.mean(hits) < 0.1


@pytest.mark.parametrize("key", ["watch", "kite", "flamingo"])
def test_the_mask_covers_what_differs_between_backgrounds_least(key):
    mask = subject_mask(key)
    assert mask.shape == (64, 64, 3) and mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 255}
    change = np.abs(subject_scene(key, "white").astype(int) - subject_scene(key, "black"))
    assert change[mask == 255].max() <= 128 <= change[mask == 0].min() + 1
    assert subject_picture(key).mode == "RGBA" and subject_picture(key).size == (52, 52)
