"""A bundle of other widths, depths and sizes than the goldens' against FastComposer written a second time."""

import numpy as np
import pytest
from x2i.models.random.sizes import SIZES
from x2i.models.random.weights import random_fastcomposer, random_stable_diffusion
from x2i.runtime import load
from x2i.runtime.inputs.pictures.subjects import reference_pixels

from tests.numerics import assert_close
from tests.runtime.fastcomposer_twin import object_of, twin_run

RANDOM = np.random.default_rng(21)
PICTURES = [
    np.kron(RANDOM.integers(0, 256, (*size, 3)), np.ones((block, block, 1))).astype(np.uint8)
    for size, block in (((4, 7), 10), ((7, 3), 9), ((3, 3), 14), ((1, 9), 12))
]
"""Coloured blocks: to a tower of random weights, all pictures of noise look alike."""
IMAGE = "<|image|>"
SIZE = SIZES["tiny"].elite_vision["image_size"]
CASES = {
    "one": ((16, 16), f"a cat {IMAGE} on a mat", {"steps": 6, "start": 2, "guidance": 5.0}),
    "two, wide": ((9, 14), f"a cat {IMAGE} and a dog{IMAGE}", {"steps": 7, "alpha": 0.6, "guidance": 2.5}),
    "three, tall": ((14, 6), "a S, b S, c S", {"marker": "S", "steps": 4, "alpha": 1.0, "guidance": 7.5}),
    "four": (
        (8, 8),
        "a img b img c img d img",
        {"marker": "img", "steps": 5, "start": 0, "object_resolution": 73, "negative": "e", "guidance": 1.5},
    ),
    "several pictures": ((6, 10), f"x {IMAGE} y {IMAGE}", {"steps": 3, "start": 1, "guidance": 5.0, "count": 3}),
    "ddim": ((10, 6), f"x {IMAGE} y", {"steps": 10, "alpha": 0.7, "sampler": "ddim", "guidance": 3.0}),
    "one step": ((8, 8), f"x {IMAGE} y", {"steps": 1, "start": 0, "guidance": 5.0}),
    "never": ((8, 8), f"x {IMAGE} y", {"steps": 3, "start": 3, "guidance": 5.0}),
    "last": ((8, 8), f"x {IMAGE} y", {"steps": 3, "start": 2, "guidance": 5.0}),
}


def call(pipeline, prompt, options, subjects):
    """The pipeline's run, in its own words."""
    given = dict(options)
    if "start" in given:
        given["start_merge_step"] = given.pop("start")
    return pipeline(prompt, subjects=subjects, **given)


def prepared(name):
    size, prompt, changes = CASES[name]
    options = {"marker": IMAGE, "object_resolution": 224, "sampler": "pndm", "count": 1} | changes
    noise = np.random.default_rng(3).standard_normal((options["count"], 4, *size)).astype(np.float32)
    return prompt, options | {"noise": noise}, PICTURES[: prompt.count(options["marker"])]


@pytest.fixture(scope="module")
def pipeline(fastcomposer_bundle):
    return load(fastcomposer_bundle)


@pytest.mark.parametrize("name", CASES)
def test_run(pipeline, fastcomposer_bundle, name):
    prompt, options, subjects = prepared(name)
    tokenizer = fastcomposer_bundle / "tokenizer.json"
    parts = random_fastcomposer("tiny", random_stable_diffusion("tiny"))
    walked, flags = twin_run(parts, subjects, tokenizer, prompt, options)
    objects = pipeline.session("image_encoder")(
        pixels=reference_pixels(subjects, options["object_resolution"], SIZE)[0][None]
    )
    expected = [object_of(parts.vision, picture, options["object_resolution"]).numpy() for picture in subjects]
    assert_close(objects["objects"][0], np.stack(expected), "batched")
    output = call(pipeline, prompt, options, subjects)
    assert output.segments == tuple(map(int, flags))
    assert_close(output.latents, walked[-1], "fastcomposer-twin")


@pytest.mark.parametrize("name", ["three, tall", "four"])
def test_every_input_changes_the_picture(pipeline, name):
    prompt, options, subjects = prepared(name)
    before = call(pipeline, prompt, options, subjects).latents
    start = {key: value for key, value in options.items() if key not in ("alpha", "start")}
    for changed in (
        (prompt, options, subjects[::-1]),
        (prompt, options, [*subjects[:-1], PICTURES[2] // 2]),
        (prompt, options | {"object_resolution": 64}, subjects),
        (prompt, start | {"start": 1}, subjects),
        (prompt, options | {"negative": "nothing"}, subjects),
        ("the " + prompt, options, subjects),
    ):
        assert np.abs(call(pipeline, *changed).latents - before).max() > 1e-4 * before.std()


def test_pictures_do_not_influence_each_other(pipeline):
    encoder = pipeline.session("image_encoder")
    four = RANDOM.standard_normal((1, 4, 3, SIZE, SIZE)).astype(np.float32)
    together = encoder(pixels=four)["objects"]
    for number in range(4):
        alone = encoder(pixels=four[:, number : number + 1])["objects"]
        assert_close(together[:, number : number + 1], alone, "batched")
