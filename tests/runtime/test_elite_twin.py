"""A bundle of other heads, widths, depths and sizes than the goldens' against ELITE written a second time."""

import numpy as np
import pytest
from x2i.models.random.weights import random_elite, random_stable_diffusion
from x2i.runtime import load
from x2i.runtime.conditions import Conditions

from tests.numerics import assert_close
from tests.runtime.elite_twin import twin_latents

RANDOM = np.random.default_rng(11)
SUBJECT = RANDOM.integers(0, 256, (41, 67, 3), dtype=np.uint8)
MASK = np.zeros((41, 67), np.uint8)
MASK[9:33, 12:50] = 255


@pytest.mark.parametrize(
    ("prompt", "word", "index", "size", "steps", "guidance", "strength", "words"),
    [
        ("a S on the beach", "S", 2, (16, 16), 7, 5.0, 0.8, 1),
        ("one T", "T", 4, (9, 14), 5, 2.5, 1.7, 1),
        ("a S by night", "S", 2, (14, 9), 3, 7.5, 0.0, 5),
    ],
    ids=["beach", "odd-size", "all-words"],
)
def test_run(elite_bundle, prompt, word, index, size, steps, guidance, strength, words):
    pipeline = load(elite_bundle)
    noise = np.random.default_rng(3).standard_normal((1, 4, *size)).astype(np.float32)
    given = {"subject": SUBJECT, "mask": MASK, "word": word, "words": words}
    given |= {"global_only": True} if words > 1 else {"strength": strength}
    request, _, _ = pipeline._request(prompt, given)
    assert request.inputs.slots["word_index"][1] == index
    (tokenizer,) = (t for _, t in Conditions(pipeline.bundle, pipeline.session)._conditioners if t is not None)
    ids = tokenizer([prompt, ""]).input_ids
    pixels = tuple(request.inputs.slots[name] for name in ("subject_pixels", "object_pixels", "mask"))
    base = random_stable_diffusion("tiny")
    options = {"noise": noise, "steps": steps, "guidance": guidance, "strength": strength, "words": words}
    expected = twin_latents(
        base, random_elite("tiny", base.unet), pixels, (ids[:1], ids[1:]), options | {"index": index}
    )
    run = {"noise": noise, "steps": steps, "guidance": guidance, "sampler": "lms"}
    for step in pipeline.steps(prompt, **run, **given):
        assert_close(step.latents, expected[step.index], "elite-latents")
