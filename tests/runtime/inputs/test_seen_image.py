"""The one picture that is described."""

import numpy as np
import pytest
from PIL import Image
from x2i.runtime.errors import InputError
from x2i.runtime.inputs.option import CallContext, CallShape, PreparedInputs
from x2i.runtime.inputs.pictures.image import SeenImageInput
from x2i.runtime.inputs.registry import filled_in
from x2i.runtime.media.clip_pixels import openai_clip_pixels

from tests.numerics import assert_close

GREY = Image.fromarray(np.random.default_rng(2).integers(0, 256, (31, 50), dtype=np.uint8))


def prepared(**options: object) -> PreparedInputs:
    made = PreparedInputs()
    SeenImageInput(14).prepare(CallContext(filled_in(options), None, None, 2, 5), made)
    return made


@pytest.mark.parametrize("image", [GREY, [GREY], np.asarray(GREY)])
def test_a_picture_fills_its_slot(image: object) -> None:
    made = prepared(image=image)
    assert_close(made.slots["image_pixels"], openai_clip_pixels(GREY, 14)[None], "exact")
    shape = SeenImageInput(14).shapes(CallShape((1, 1), 1, 2), {})
    assert shape == {name: array.shape for name, array in made.slots.items()} and not made.notes


def test_it_stands_in_for_itself() -> None:
    assert prepared(**SeenImageInput(14).stand_in()).slots["image_pixels"].shape == (1, 3, 14, 14)


@pytest.mark.parametrize(("image", "got"), [(None, "none"), ([], "none"), ([GREY, GREY, GREY], "3")])
def test_none_and_several_are_refused(image: object, got: str) -> None:
    with pytest.raises(InputError, match=f"image: expected one picture, which is described, got {got}; give one"):
        prepared(image=image)


def test_what_is_transparent_is_told() -> None:
    clear = Image.new("RGBA", (20, 20), (9, 9, 9, 0))
    assert "100% of it is not opaque; scaled, what is transparent may turn black" in prepared(image=clear).notes[0]
