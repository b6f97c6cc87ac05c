from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageFilter
from x2i.emoji.world import pairs, vocabulary
from x2i.emoji.world.pairs import Pair, PairVerdict, judge_pair, pair_scene
from x2i.emoji.world.subjects import subject_keys

PAIRS = pairs.pairs()
SCENES = [pair_scene(pair) for pair in PAIRS]


def exchanged(scene: np.ndarray) -> np.ndarray:
    return np.concatenate([scene[:, 32:], scene[:, :32]], 1)


def average(scene: np.ndarray) -> np.ndarray:
    return (scene.astype(int) + exchanged(scene)) / 2


def blurry(scene: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(np.round(scene).astype(np.uint8)).filter(ImageFilter.GaussianBlur(2.5)))


def verdicts(spoil):
    return [(judge_pair(spoil(scene).astype(np.uint8), pair), pair) for scene, pair in zip(SCENES, PAIRS, strict=True)]


def outcome(verdict: PairVerdict) -> str:
    """The one of the four that a verdict is."""
    (found,) = (name for name in ("apart", "swapped", "blended", "missing") if getattr(verdict, name))
    return found


def test_every_subject_is_once_on_each_side():
    assert Counter(pair.left for pair in PAIRS) == Counter(pair.right for pair in PAIRS) == Counter(subject_keys())
    assert set(Counter(pair.background for pair in PAIRS).values()) == {8}
    assert all(pair.left != pair.right and f"on a {pair.background} background" in pair.prompt for pair in PAIRS)
    assert all(pair.prompt.count(f"{pairs.NOUN} {pairs.MARKER}") == 2 for pair in PAIRS)
    assert pairs.pairs.__wrapped__() == PAIRS


@pytest.mark.parametrize("noise", [0, 30], ids=["clean", "noisy"])
def test_it_names_what_was_asked_for(noise):
    rng = np.random.default_rng(1)
    for verdict, pair in verdicts(lambda image: np.clip(image + rng.normal(0, noise, image.shape), 0, 255)):
        assert outcome(verdict) == "apart"
        assert (verdict.named, verdict.background) == ((pair.left, pair.right), pair.background)


def test_exchanged_halves_are_swapped():
    for verdict, pair in verdicts(exchanged):
        assert outcome(verdict) == "swapped"
        assert (verdict.named, verdict.background) == ((pair.right, pair.left), pair.background)


@pytest.mark.parametrize(
    "spoil",
    [
        average,
        lambda scene: np.concatenate([scene[:, 32:], scene[:, 32:]], 1),
        lambda scene: np.concatenate([scene[:, :32], average(scene)[:, 32:]], 1),
    ],
    ids=["average", "one twice", "one and the average"],
)
def test_blends(spoil):
    assert {outcome(verdict) for verdict, _ in verdicts(spoil)} == {"blended"}


def test_coarse_drawings_are_no_blends_and_coarse_blends_are():
    assert np.mean([verdict.apart for verdict, _ in verdicts(lambda scene: blurry(scene))]) > 0.9
    assert np.mean([verdict.blended for verdict, _ in verdicts(lambda scene: blurry(average(scene)))]) > 0.95


def test_a_half_may_show_neither():
    blank = [outcome(verdict) for verdict, _ in verdicts(lambda scene: np.broadcast_to(scene[:1, :1], scene.shape))]
    half = [
        verdict.shown
        for verdict, _ in verdicts(
            lambda scene: np.concatenate([scene[:, :32], np.broadcast_to(scene[:1, :1], (64, 32, 3))], 1)
        )
    ]
    assert set(blank) == {"missing"} and set(half) == {("own", "neither")}


def test_it_sees_nothing_in_noise():
    rng = np.random.default_rng(2)
    seen = verdicts(lambda image: rng.integers(0, 256, image.shape))
    assert np.mean([verdict.named[0] == pair.left for verdict, pair in seen]) < 0.1
    assert np.mean([verdict.apart for verdict, _ in seen]) < 0.1


def test_the_reference_pictures_show_each_subject_alone():
    left, right = Pair("kite", "watch", "blue", "").pictures()
    assert left.shape == right.shape == (64, 64, 3) and (left != right).any()
    assert left[0, 0].tolist() == right[0, 0].tolist() == [255, 255, 255]


def test_each_subject_stays_in_its_half():
    colours = {background.key: background.rgb for background in vocabulary.backgrounds()}
    for scene, pair in zip(SCENES, PAIRS, strict=True):
        assert (scene[:, 31:33] == colours[pair.background]).all()
        other = pair_scene(Pair(pair.left, pair.left, pair.background, ""))
        assert (scene[:, :32] == other[:, :32]).all() and (scene[:, 32:] != other[:, 32:]).any()


def test_painted_pairs_ask_for_every_picture_on_both_sides():
    found = pairs.painted_pairs()
    assert Counter(pair.left for pair in found) == Counter(pair.right for pair in found)
    assert {pair.left for pair in found} == set(vocabulary.picture_keys())
    assert (found[0].left, found[0].right) == ("red apple", "panda") and all(pair.left != pair.right for pair in found)
    assert set(Counter(pair.background for pair in found).values()) == {8}


def test_the_judge_of_painted_pairs_names_both_sides():
    for pair in pairs.painted_pairs():
        left, right = (vocabulary.scene(key, pair.background) for key in (pair.left, pair.right))
        assert pairs.judge_painted(np.concatenate([left, right], 1)) == (pair.left, pair.right)
        assert pairs.judge_painted(np.concatenate([right, left], 1)) == (pair.right, pair.left)
        colours = pair.options()["paint"].reshape(-1, 3)
        assert {tuple(colour) for colour in np.unique(colours, axis=0).tolist()} == set(pair.options()["paint_words"])
