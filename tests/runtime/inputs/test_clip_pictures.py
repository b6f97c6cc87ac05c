"""Pictures for CLIP's vision tower, against transformers' own preparation on Pillow."""

import numpy as np
import pytest
from PIL import Image
from x2i.runtime.errors import InputError
from x2i.runtime.media.clip_pixels import clip_pixels, squashed

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
