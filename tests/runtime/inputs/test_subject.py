"""A subject's picture and mask: equal to ELITE's loader and demo, at any size; and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from x2i.runtime.errors import InputError
from x2i.runtime.inputs.pictures.subject import NO_MASK, segmented, subject_inputs, to_grid
from x2i.runtime.media.pictures import open_picture

from tests.goldens import golden, golden_arrays
from tests.numerics import assert_close

RNG = np.random.default_rng(5)
PICTURE = RNG.integers(1, 256, (61, 47, 3), dtype=np.uint8)
MASK = np.zeros((61, 47), np.uint8)
MASK[10:50, 8:40] = 255


def paths(name: str) -> tuple[Path, Path]:
    return golden(f"elite/inputs/{name}.png"), golden(f"elite/inputs/{name}_bg.png")


def problems(*arguments, **options) -> tuple[str, ...]:
    with pytest.raises(InputError) as raised:
        subject_inputs(*arguments, **options)
    return raised.value.problems


@pytest.mark.parametrize("name", ["mug", "ring"])
def test_equal_to_the_authors_loader(name: str) -> None:
    expected = golden_arrays(f"elite/golden/preprocess_{name}.npz")
    picture, mask = paths(name)
    slots = subject_inputs(picture, mask, 224, 16).slots
    assert_close(slots["subject_pixels"], expected["pixel_values_clip"][None], "pixels")
    assert_close(slots["object_pixels"], expected["pixel_values_obj"][None], "pixels")
    assert_close(slots["mask"], expected["mask16"].reshape(1, -1), "exact")
    assert all(array.dtype == np.float32 for array in slots.values())
    levels = np.asarray(open_picture(mask, "mask").image)
    assert_close(segmented(levels).transpose(2, 0, 1), expected["pixel_values_seg"], "exact")


@pytest.mark.parametrize("name", ["mug", "ring"])
def test_equal_to_the_authors_demo(name: str) -> None:
    expected = golden_arrays(f"elite/golden/preprocess_demo_{name}.npz")
    picture, mask = paths(name)
    slots = subject_inputs(picture, mask, 224, 16, soft_mask=True).slots
    assert_close(slots["subject_pixels"].astype(np.float16), expected["pixel_values_clip"], "exact")
    assert_close(slots["object_pixels"].astype(np.float16), expected["pixel_values_obj"], "exact")
    levels = np.asarray(open_picture(mask, "mask").image)
    segment = segmented(levels, soft_mask=True)
    assert_close(segment.transpose(2, 0, 1)[None], expected["pixel_values_seg"], "exact")
    assert_close(slots["mask"].reshape(16, 16), segment[::8, ::8, 0], "exact")


@pytest.mark.parametrize("shape", [(1, 1), (5, 300), (128, 127), (333, 250), (1001, 77)])
@pytest.mark.parametrize("grid", [1, 3, 7, 8, 14, 16, 24, 37, 130])
def test_sampling_is_torchs_nearest(shape: tuple[int, int], grid: int) -> None:
    levels = RNG.integers(0, 2, (*shape, 3), dtype=np.uint8) * np.uint8(200)
    given = torch.from_numpy((levels > 0).astype(np.float32)).permute(2, 0, 1)[None]
    segment = torch.nn.functional.interpolate(given, 128)
    assert_close(segmented(levels).transpose(2, 0, 1)[None], segment.numpy(), "exact")
    expected = torch.nn.functional.interpolate(segment, grid)[0, 0]
    assert_close(to_grid(segmented(levels)[..., 0], grid), expected.numpy(), "exact")


@pytest.mark.parametrize(("size", "grid"), [(64, 8), (224, 16), (70, 5), (33, 3)])
def test_any_size(size: int, grid: int) -> None:
    slots = subject_inputs(PICTURE, MASK, size, grid).slots
    assert slots["subject_pixels"].shape == slots["object_pixels"].shape == (1, 3, size, size)
    assert slots["mask"].shape == (1, grid * grid)
    assert 0 < slots["mask"].sum() < grid * grid


def test_kinds_of_one_mask(tmp_path: Path) -> None:
    """However a mask is stored, and wherever its 1 is 1 or 255, it says the same."""
    three = np.repeat(MASK[..., None], 3, 2)
    expected = subject_inputs(PICTURE, three, 64, 8).slots
    grey = Image.fromarray(MASK)
    kinds = [grey, grey.convert("1"), grey.convert("P"), grey.convert("LA"), grey.convert("RGBA"), MASK // 255]
    for kind in [*kinds, MASK > 0, MASK.astype(np.int32).astype(np.uint8)[..., None]]:
        for slot, array in subject_inputs(PICTURE, kind, 64, 8).slots.items():
            assert_close(array, expected[slot], "exact")


def test_every_channel_of_the_mask_has_its_own_say() -> None:
    red = np.repeat(MASK[..., None], 3, 2)
    red[..., 1:] = 0
    slots = subject_inputs(PICTURE, red, 64, 8).slots
    plain = subject_inputs(PICTURE, MASK, 64, 8).slots
    assert_close(slots["object_pixels"][:, 0], plain["object_pixels"][:, 0], "exact")
    assert np.ptp(slots["object_pixels"][:, 1]) == 0
    assert_close(slots["mask"], plain["mask"], "exact")
    assert problems(PICTURE, red[..., ::-1], 64, 8)[0].count("its red channel") == 1


def test_without_a_mask_everything_is_the_subject() -> None:
    subject = subject_inputs(PICTURE, None, 64, 8)
    assert subject.notes == (NO_MASK,)
    assert_close(subject.slots["object_pixels"], subject.slots["subject_pixels"], "exact")
    assert subject.slots["mask"].all()
    assert not subject_inputs(PICTURE, MASK, 64, 8).notes


def test_masks_that_say_nothing() -> None:
    (line,) = problems(PICTURE, np.zeros((61, 47), np.uint8), 64, 8)
    assert line == "mask: expected white where the subject is, got a black picture; paint the subject white"
    thin = np.zeros((61, 47), np.uint8)
    thin[1, 1] = 255
    (line,) = problems(PICTURE, thin, 64, 8)
    assert "at least one of the 8x8 places" in line and "it is too thin" in line
    (line,) = problems(PICTURE, MASK // 2, 64, 8, soft_mask=True)
    assert "fully white" in line


def test_masks_of_another_picture() -> None:
    (line,) = problems(PICTURE, MASK.T, 64, 8)
    assert "expected 47x61 pixels like the subject, got 61x47; " in line
    (line,) = problems(PICTURE, PICTURE, 64, 8)
    assert "got the subject's own picture" in line
    silhouette = subject_inputs(MASK, MASK, 64, 8).slots
    assert_close(silhouette["object_pixels"], silhouette["subject_pixels"], "exact")


def test_both_pictures_at_fault_are_told_at_once(tmp_path: Path) -> None:
    first, second = problems(tmp_path / "a.png", tmp_path / "b.png", 64, 8)
    assert first.startswith(f"subject {tmp_path / 'a.png'}: ") and second.startswith(f"mask {tmp_path / 'b.png'}: ")
    (line,) = problems(None, None, 64, 8)
    assert line.startswith("subject: ")


def test_a_mask_saved_as_jpeg_is_told() -> None:
    noisy = np.maximum(MASK, RNG.integers(0, 6, MASK.shape, dtype=np.uint8))
    (note,) = subject_inputs(PICTURE, noisy, 64, 8).notes
    assert note.startswith("mask: ") and "nearly black, which counts as subject" in note
    assert not subject_inputs(PICTURE, noisy, 64, 8, soft_mask=True).notes


def test_a_cut_out_is_told() -> None:
    cut_out = np.dstack([PICTURE, MASK])
    (note,) = subject_inputs(cut_out, MASK, 64, 8).notes
    assert note.startswith("subject: ") and "alpha channel as the mask" in note
    (note,) = subject_inputs(PICTURE, np.dstack([np.full_like(PICTURE, 255), MASK]), 64, 8).notes
    assert note.startswith("mask: ")


def test_turned_alike(tmp_path: Path) -> None:
    """A photo that is stored lying on its side goes with a mask that is stored so too, or painted upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    expected = subject_inputs(PICTURE, MASK, 64, 8).slots
    for name, array in (("picture.png", PICTURE), ("mask.png", MASK)):
        Image.fromarray(np.ascontiguousarray(np.rot90(array))).save(tmp_path / name, exif=exif)
    for mask in (tmp_path / "mask.png", MASK):
        for slot, array in subject_inputs(tmp_path / "picture.png", mask, 64, 8).slots.items():
            assert_close(array, expected[slot], "exact")
