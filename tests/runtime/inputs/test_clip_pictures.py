"""Pictures for CLIP's vision tower, against transformers' own preparation on Pillow."""

import numpy as np
import pytest
from PIL import Image
from x2i.runtime.errors import InputError
from x2i.runtime.media.clip_pixels import MEAN, STD, clip_pixels, normalised, openai_clip_pixels, squashed
from x2i.runtime.media.pictures import open_picture

from tests.goldens import FULL, golden
from tests.models.token_transformers.ddcap_goldens import FOLDER, TAGS, networks
from tests.numerics import assert_close

RNG = np.random.default_rng(11)


def picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [224, 64, 33])
@pytest.mark.parametrize(
    ("width", "height"),
    [(250, 333), (333, 250), (224, 224), (7, 5), (1, 1), (1, 700), (900, 3), (223, 225), (225, 224), (64, 65)],
)
def test_equal_to_transformers(width: int, height: int, size: int) -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    peer = CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
    pictures = [picture(width, height), picture(height, width), picture(size, size)]
    pixels = clip_pixels(pictures, size)
    assert pixels.dtype == np.float32 and pixels.flags.c_contiguous
    assert_close(pixels, np.stack([peer(one)["pixel_values"][0] for one in pictures]), "pixels")


def test_no_picture_is_refused() -> None:
    with pytest.raises(InputError, match="expected at least one picture, got none; give one"):
        clip_pixels([], 224)


def test_a_sliver_is_refused() -> None:
    with pytest.raises(InputError, match="expected sides of like length, got 1x5000; cut out"):
        clip_pixels([picture(1, 5000)], 224)


def test_squashed_keeps_every_side() -> None:
    """Left half black, right half white, and it is so after squashing to a square; the height stays out of it."""
    halves = Image.fromarray(np.repeat(np.repeat(np.uint8([[0, 255]]), 40, 1), 9, 0)).convert("RGB")
    pixels = squashed(halves, 16)
    black, white = (float(pixels[0, 0, column]) for column in (0, -1))
    assert_close(
        np.float32([black, white]), np.float32([(0 - 0.48145466) / 0.26862954, (1 - 0.48145466) / 0.26862954]), "pixels"
    )
    assert_close(pixels[:, 0], pixels[:, -1], "exact")


PICTURES = sorted(path.name for path in (FULL / FOLDER / "images").glob("*"))


@pytest.mark.parametrize("tag", TAGS)
def test_equal_to_openai(tag: str) -> None:
    """Tall, wide and exact ones, a grey one, one with transparency."""
    expected = networks(tag)["pixels"]
    sources = [open_picture(golden(f"{FOLDER}/images/{name}"), "image", as_stored=True) for name in PICTURES]
    pixels = np.stack([openai_clip_pixels(picture.image, expected.shape[-1]) for picture in sources])
    assert pixels.dtype == np.float32
    assert_close(pixels, expected, "ddcap-pixels")


@pytest.mark.parametrize(("width", "height", "left"), [(9, 4, 2), (11, 4, 4), (8, 4, 2), (10, 4, 3)])
def test_half_a_pixel_is_rounded_to_the_even_side(width: int, height: int, left: int) -> None:
    one = picture(width, height)
    kept = one.crop((left, 0, left + height, height))
    assert_close(openai_clip_pixels(one, height), normalised(kept), "exact")
    assert (width - height) % 2 == 0 or left % 2 == 0


@pytest.mark.parametrize("mode", ["1", "P"])
def test_palettes_are_scaled_without_means(mode: str) -> None:
    """As Pillow does it: the order of scaling and converting is seen."""
    one = picture(31, 44).convert(mode)
    colours = {tuple(pixel) for pixel in np.asarray(one.convert("RGB")).reshape(-1, 3)}
    whole = np.rint((openai_clip_pixels(one, 13).transpose(1, 2, 0) * STD + MEAN) * 255).astype(int)
    assert {tuple(pixel) for pixel in whole.reshape(-1, 3)} <= colours
    assert np.abs(openai_clip_pixels(one.convert("RGB"), 13) - openai_clip_pixels(one, 13)).max() > 0.1


def test_transparency_weights_the_mean() -> None:
    alpha = np.zeros((40, 40, 1), np.uint8)
    alpha[:, ::2] = 255
    red = np.concatenate([np.full((40, 40, 3), (200, 0, 0), np.uint8), alpha], -1)
    red[:, 1::2, :3] = 255  # white, and not seen
    pixels = openai_clip_pixels(Image.fromarray(red), 20)
    assert_close(pixels[:, 9, 9], normalised(Image.new("RGB", (1, 1), (200, 0, 0)))[:, 0, 0], "one-level")


def test_a_sliver_is_refused_here_too() -> None:
    with pytest.raises(InputError, match="expected sides of like length, got 5000x1; cut out"):
        openai_clip_pixels(picture(5000, 1), 224)
