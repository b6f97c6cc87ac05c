"""What a walk through tokens begins with: pictures, tokens and masks, and what is refused."""

import numpy as np
import pytest
from PIL import Image
from x2i.runtime.bundle.records import decode, encode
from x2i.runtime.errors import InputError
from x2i.runtime.inputs.micro import MicroConditions
from x2i.runtime.inputs.option import CallContext, CallShape, PreparedInputs
from x2i.runtime.inputs.pictures.start import StartInput
from x2i.runtime.inputs.registry import filled_in

EVERYTHING = ("image", "mask", "strength", "tokens")
START = StartInput(classes=11, factor=4, multiple=8, takes=EVERYTHING, mask_id=13)


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def mask(height, width, rows=slice(8, 16)):
    made = np.zeros((height, width), np.uint8)
    made[rows] = 255
    return made


def prepared(start=START, **given):
    made = PreparedInputs()
    size = given.get("size") or (32, 32)
    count = given.get("count", 1)
    start.prepare(CallContext(filled_in(given), None, None, 2, 12, grid=(8, 8), size=size, count=count), made)
    return made


def refused(start=START, **given):
    """The problems of a call, raised or noted."""
    try:
        return prepared(start, **given).problems
    except InputError as error:
        return list(error.problems)


def test_nothing_given_fills_nothing():
    made = prepared()
    assert made.slots == {} and made.problems == [] and made.size is None


def test_a_picture_is_brought_to_the_next_smaller_sides():
    made = prepared(image=picture(29, 44))
    pixels = made.slots["start_pixels"]
    assert pixels.shape == (1, 3, 24, 40) and pixels.dtype == np.float32 and made.size == (24, 40)
    assert pixels.min() >= 0 and pixels.max() <= 1 and pixels.flags.c_contiguous


def test_a_picture_of_the_right_size_stays_as_it_is():
    given = picture(16, 24)
    pixels = prepared(image=given).slots["start_pixels"][0].transpose(1, 2, 0)
    assert np.array_equal(np.rint(pixels * 255), given)
    signed = StartInput(11, 4, 8, EVERYTHING, signed=True)
    assert np.allclose(prepared(signed, image=given).slots["start_pixels"][0].transpose(1, 2, 0), pixels * 2 - 1)


def test_a_fixed_size_takes_any_picture():
    fixed = StartInput(11, 4, 8, ("image",), fixed=(16, 24))
    made = prepared(fixed, image=picture(50, 20))
    assert made.slots["start_pixels"].shape == (1, 3, 16, 24) and made.size == (16, 24)


def test_white_is_what_is_not_known():
    made = prepared(image=picture(32, 40), mask=mask(32, 40))
    known = made.slots["known"].reshape(8, 10)
    assert known.dtype == np.bool_ and np.array_equal(np.flatnonzero(~known.any(axis=1)), [2, 3])


def test_a_masks_greys_are_cut_in_the_middle():
    greys = np.full((16, 16), 127, np.uint8)
    greys[:, 8:] = 128
    assert prepared(image=picture(16, 16), mask=greys).slots["known"].reshape(4, 4)[:, [0, 3]].tolist() == [[1, 0]] * 4


def test_tokens_stand_for_a_picture():
    tokens = np.arange(24).reshape(4, 6) % 11
    tokens[2, 3] = 13
    made = prepared(tokens=tokens.astype(np.uint16), mask=mask(16, 24, slice(0, 4)))
    assert np.array_equal(made.slots["start_tokens"], tokens.reshape(1, -1)) and made.size == (16, 24)
    assert made.slots["start_tokens"].dtype == np.int64
    assert np.array_equal(np.flatnonzero(~made.slots["known"]), np.arange(6))
    several = prepared(tokens=np.stack([tokens, tokens]), count=2)
    assert several.slots["start_tokens"].shape == (2, 24)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"mask": mask(32, 32)}, "mask: expected a picture to complete, got none"),
        ({"strength": 0.5}, "strength: expected a picture to redraw, got none"),
        ({"image": picture(16, 16), "strength": 0}, "strength: expected a number above 0, up to 1, got 0"),
        ({"image": picture(16, 16), "strength": 1.5}, "strength: expected a number above 0, up to 1, got 1.5"),
        ({"image": picture(16, 16), "mask": mask(16, 24)}, "mask: expected 16x16 pixels like the picture, got 24x16"),
        ({"image": picture(16, 16), "mask": np.zeros((16, 16), np.uint8)}, "mask: expected white on at least one of"),
        ({"image": picture(5, 16)}, "image: expected at least 8 pixels a side, got 16x5"),
        ({"image": [picture(16, 16)] * 2}, "image: expected one picture, or tokens, to begin with, got several"),
        ({"image": picture(16, 16), "tokens": np.zeros((2, 2), int)}, "image: expected one picture, or tokens"),
        ({"image": picture(16, 16), "size": (32, 32)}, "size: what is begun with is drawn at 16x16, got (32, 32)"),
        ({"tokens": np.zeros((4, 4), int), "size": (32, 32)}, "size: what is begun with is drawn at 16x16"),
        ({"tokens": np.full((4, 4), 11)}, "tokens: expected ids from 0 to 10, or 13 where nothing is, got 11"),
        ({"tokens": np.full((4, 4), -1)}, "tokens: expected ids from 0 to 10, or 13 where nothing is, got -1"),
        ({"tokens": np.zeros(16, int)}, "tokens: expected whole numbers [height, width], or with the count in front"),
        ({"tokens": np.zeros((4, 4))}, "tokens: expected whole numbers [height, width], or with the count in front"),
        ({"tokens": "ids"}, "tokens: expected whole numbers [height, width], or with the count in front, got 'ids'"),
        ({"tokens": np.zeros((3, 4, 4), int), "count": 2}, "tokens: expected one start, or 2, got 3"),
        ({"tokens": np.zeros((0, 4), int)}, "tokens: expected whole numbers [height, width]"),
        ({"tokens": np.broadcast_to(0, (10**5, 10**4))}, "tokens: expected whole numbers [height, width]"),
    ],
)
def test_what_is_no_start_is_refused(given, problem):
    (line,) = refused(**given)
    assert line.startswith(problem)


def test_what_a_system_does_not_take_is_refused():
    alone = StartInput(11, 4, 8, ("image",), required=True)
    assert refused(alone) == ["image: expected one, which this bundle draws from, got none; give image"]
    given = {"image": picture(16, 16), "mask": mask(16, 16), "strength": 0.4}
    assert refused(alone, **given) == [f"{name}: this bundle takes none; leave it out" for name in ("mask", "strength")]
    assert alone.slots() == ("start_pixels",) and set(alone.stand_in()) == {"image"}


def test_shapes_and_manifests():
    shapes = START.shapes(CallShape((32, 24), 1, 2), {})
    assert shapes == {"start_pixels": (1, 3, 32, 24), "start_tokens": (1, 48), "known": (1, 48)}
    assert decode(StartInput, encode(START), "start") == START


def test_an_upright_picture_decides(tmp_path):
    """A photo that its tag turns has its mask painted over it as it is seen."""
    tag = Image.Exif()
    tag[0x0112] = 6
    Image.fromarray(picture(16, 24)).save(tmp_path / "turned.jpg", exif=tag)
    assert prepared(image=tmp_path / "turned.jpg", mask=mask(24, 16)).size == (24, 16)


def micro(made=None, **given):
    made = made or PreparedInputs()
    MicroConditions().prepare(CallContext(filled_in(given), None, None, 2, 12, size=(32, 48)), made)
    return made


def test_width_comes_first_in_the_micro_conditions():
    assert micro().slots["micro"].tolist() == [[48, 32, 0, 0, 6]]
    assert micro(crop=[8, 20], aesthetic=4).slots["micro"].tolist() == [[48, 32, 8, 20, 4]]
    assert micro(PreparedInputs(size=(16, 24))).slots["micro"].tolist() == [[24, 16, 0, 0, 6]]


def test_a_crop_has_two_edges():
    assert micro(crop=[8]).problems == ["crop: expected both edges of it, got 1 of them; give two numbers"]
    assert micro(crop=[8, 9, 10]).problems and "micro" not in micro(crop=8).slots
