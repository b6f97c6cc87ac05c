"""The embedded systems of tokens, from their committed files to pictures and captions that the judges call right."""

import numpy as np
import pytest
from x2i.emoji.tokens.caption_judge import held_out_scenes, judge_caption
from x2i.emoji.world.captions import caption
from x2i.emoji.world.judge import Verdict, judge
from x2i.emoji.world.vocabulary import scene
from x2i.runtime import Pipeline, load

from tests.bundles import whole_embedded

SCENES = (("red apple", "white"), ("rocket", "blue"), ("crown", "purple"))


def opened(system: str) -> Pipeline:
    return load(whole_embedded(system))


@pytest.mark.parametrize("system", ["vq-diffusion", "muse"])
def test_it_draws_what_was_asked(system):
    pipeline = opened(system)
    drawn = [pipeline(caption("English", *scene), seed=3).images[0] for scene in SCENES]
    assert [judge(np.asarray(image)) for image in drawn] == [Verdict(*scene) for scene in SCENES]
    other = pipeline(caption("English", *SCENES[0]), seed=4).images[0]
    assert judge(np.asarray(other)) == Verdict(*SCENES[0])


def test_it_redraws_a_picture_and_leaves_what_no_mask_names():
    picture, mask = scene("rocket", "blue"), np.zeros((64, 64), np.uint8)
    mask[:, 32:] = 255
    output = opened("muse")(caption("English", "rocket", "blue"), image=picture, mask=mask, seed=1)
    assert judge(np.asarray(output.images[0])) == Verdict("rocket", "blue")
    first, *_, last = opened("muse").steps(caption("English", "rocket", "blue"), image=picture, mask=mask, seed=1)
    left, right = np.split(first.tokens.reshape(8, 8) == last.tokens.reshape(8, 8), 2, axis=1)
    assert left.all() and not right.all()


def test_it_says_what_it_sees():
    pipeline, scenes = opened("ddcap"), held_out_scenes()[::9]
    said = [judge_caption(pipeline(image=picture).texts[0]) for _, _, picture in scenes]
    right = [verdict == Verdict(key, colour) for verdict, (key, colour, _) in zip(said, scenes, strict=True)]
    assert sum(right) >= len(scenes) - 1
