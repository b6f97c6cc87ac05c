"""Subjects' pictures as FastComposer's encoder reads them, against its authors' loader."""

import numpy as np
import pytest
from PIL import Image
from x2i.runtime.errors import InputError
from x2i.runtime.inputs.pictures.subjects import encoder_pixels, levels_of, reference_pixels, squared
from x2i.runtime.media.clip_pixels import MEAN, STD
from x2i.runtime.media.pictures import ORIENTATION

from tests.goldens import golden, golden_arrays
from tests.numerics import assert_close

RNG = np.random.default_rng(12)
CASES = (
    ("portrait_even", 224),
    ("landscape_odd", 224),
    ("square_native", 224),
    ("small_gray_odd", 224),
    ("rgba_landscape", 224),
    ("portrait_even", 256),
    ("landscape_odd", 256),
)


def picture(width: int, height: int) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def problems(sources, resolution=224):
    with pytest.raises(InputError) as caught:
        reference_pixels(sources, resolution, 32)
    return caught.value.problems


@pytest.mark.parametrize(("name", "resolution"), CASES)
def test_levels_equal_the_authors(name, resolution):
    expected = golden_arrays("fastcomposer/preprocess.npz")[f"{name}_{resolution}_u8"]
    pixels = np.asarray(Image.open(golden(f"fastcomposer/images/{name}.png")).convert("RGB"))
    assert_close(levels_of(pixels, resolution), expected, "exact")


@pytest.mark.parametrize("name", ["portrait_even", "landscape_odd"])
def test_the_square_equals_the_authors(name):
    expected = golden_arrays("fastcomposer/preprocess.npz")[f"{name}_padded_shape"]
    square = squared(np.asarray(Image.open(golden(f"fastcomposer/images/{name}.png"))))
    assert square.transpose(2, 0, 1).shape == tuple(expected)


@pytest.mark.parametrize("name", ["one_native", "two_native", "two_256", "upsample_96", "nonsquare"])
def test_what_enters_the_tower_equals_the_authors(name):
    arrays = golden_arrays("fastcomposer/image_encoder.npz")
    (pixels,) = encoder_pixels(arrays[f"{name}_u8"], 224)
    assert_close(pixels[:, :, ::8, ::8], arrays[f"{name}_vision_input_every8"], "pixels")


@pytest.mark.parametrize(("name", "resolution"), CASES)
def test_files_take_the_whole_way(name, resolution):
    levels = golden_arrays("fastcomposer/preprocess.npz")[f"{name}_{resolution}_u8"]
    pixels, notes = reference_pixels([golden(f"fastcomposer/images/{name}.png")] * 2, resolution, 224)
    assert pixels.shape == (2, 3, 224, 224) and pixels.dtype == np.float32
    assert_close(pixels, np.stack([encoder_pixels(levels, 224)] * 2), "exact")
    assert len(notes) == (2 if name.startswith("rgba") else 0)


def test_the_way_over_another_resolution_is_another_picture():
    (direct,), (detour,) = (reference_pixels([picture(90, 70)], size, 64)[0] for size in (64, 73))
    assert np.abs(direct - detour).max() > 0.1


def test_a_subject_is_padded_with_black_on_both_sides():
    pixels, _ = reference_pixels([np.full((8, 4, 3), 255, np.uint8)], 32, 32)
    black, white = (np.float32(value) - MEAN for value in (0, 1))
    for columns, expected in ((slice(0, 6), black), (slice(11, 21), white), (slice(26, 32), black)):
        block = pixels[0, :, :, columns]
        assert_close(block, np.broadcast_to((expected / STD)[:, None, None], block.shape), "pixels")


def test_a_picture_that_its_tag_turns_is_told(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    stored = Image.fromarray(picture(20, 11))
    stored.save(tmp_path / "a.png", exif=exif)
    pixels, notes = reference_pixels([tmp_path / "a.png", stored], 32, 32)
    upright, _ = reference_pixels([stored.transpose(Image.Transpose.ROTATE_270)], 32, 32)
    assert_close(pixels[:1], upright, "exact")
    (note,) = notes
    assert note.startswith("subject 1: turned upright by its EXIF tag")


def test_problems_of_all_pictures_and_the_resolution_come_at_once(tmp_path):
    lines = problems([tmp_path / "a.png", picture(5, 4), 3.0], 0)
    assert len(lines) == 3
    assert lines[0] == "object_resolution: expected a whole number of pixels from 16 to 2048, got 0"
    assert lines[1].startswith(f"subject 1 {tmp_path / 'a.png'}: expected a picture file, got nothing")
    assert lines[2].startswith("subject 3: expected a file name")


@pytest.mark.parametrize("resolution", [15, 2049, -3, True, 224.0, "224", None])
def test_a_resolution_out_of_bounds_is_refused(resolution):
    (line,) = problems([picture(5, 4)], resolution)
    assert line.startswith("object_resolution: ") and line.endswith(f"got {resolution!r}")


@pytest.mark.parametrize("resolution", [16, 17, np.int64(2048)])
def test_every_resolution_within_them_is_drawn(resolution):
    pixels, _ = reference_pixels([picture(5, 4)], resolution, 32)
    assert pixels.shape == (1, 3, 32, 32) and np.isfinite(pixels).all()


def test_slivers_are_refused_all_at_once():
    lines = problems([np.zeros((1, 10001, 3), np.uint8), np.zeros((10001, 2, 3), np.uint8)])
    assert [line.partition(":")[0] for line in lines] == ["subject 1", "subject 2"]
    assert "10001x1; cut out" in lines[0] and "2x10001; cut out" in lines[1]


def test_no_picture_is_refused():
    (line,) = problems([])
    assert line == "subjects: expected at least one picture, got none; give one for each marker"
