import numpy as np
import pytest
from x2i.emoji.world import vocabulary
from x2i.emoji.world.judge import judge

SCENES = [(key, ground.key) for key in vocabulary.picture_keys() for ground in vocabulary.backgrounds()]


def verdicts(spoil):
    found = [judge(spoil(vocabulary.scene(key, ground))) for key, ground in SCENES]
    return np.asarray([[v.key == key, v.background == ground] for v, (key, ground) in zip(found, SCENES, strict=True)])


@pytest.mark.parametrize("noise", [0, 30], ids=["clean", "noisy"])
def test_it_names_every_reference(noise):
    rng = np.random.default_rng(1)
    hits = verdicts(lambda image: np.clip(image + rng.normal(0, noise, image.shape), 0, 255).astype(np.uint8))
    assert hits.all()


def test_it_sees_nothing_in_noise():
    rng = np.random.default_rng(2)
    picture, ground = verdicts(lambda image: rng.integers(0, 256, image.shape).astype(np.uint8)).mean(0)
    assert picture < 0.1 and ground < 0.3


def test_picture_and_background_are_judged_apart():
    grey = vocabulary.on_colour(vocabulary.pictures()[:1], np.asarray([70.0, 10.0, 10.0]))[0]
    assert judge(grey).key == vocabulary.picture_keys()[0]
    blank = np.full((64, 64, 3), vocabulary.backgrounds()[2].rgb, np.uint8)
    assert judge(blank).background == vocabulary.backgrounds()[2].key
