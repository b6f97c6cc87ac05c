import numpy as np
import pytest
import torch
from x2i.emoji.world.captions import caption
from x2i.emoji.world.clip_score import clip_scores, published, token_ids
from x2i.emoji.world.subject_views import normalised
from x2i.emoji.world.subjects import subject_keys
from x2i.emoji.world.vocabulary import KINDS, backgrounds, kinds, picture_keys, scene

from tests.numerics import assert_close

COLOURS = [background.key for background in backgrounds()]
ASKED = [(key, COLOURS[k % len(COLOURS)]) for k, key in enumerate(picture_keys())]


@pytest.fixture(scope="module")
def pictures():
    return [scene(key, colour) for key, colour in ASKED]


@pytest.fixture(scope="module")
def captions():
    return [caption("English", key, colour) for key, colour in ASKED]


def test_it_is_the_cosine_of_clips_own_features(pictures, captions):
    model = published()
    with torch.no_grad():
        seen = model.visual_projection(model.vision_model(pixel_values=normalised(pictures[:5])).pooler_output)
        read = model.text_projection(model.text_model(input_ids=token_ids(captions[:5])).pooler_output)
    expected = torch.nn.functional.cosine_similarity(seen, read).cpu().numpy()
    assert_close(clip_scores(pictures[:5], captions[:5]), expected, "cosine")


def test_a_batch_changes_nothing(pictures, captions):
    more = clip_scores(pictures + pictures[:3], captions + captions[:3])
    assert_close(more[64:], clip_scores(pictures[:3], captions[:3]), "cosine")


def test_captions_fit_their_pictures_and_no_others(pictures, captions):
    right = clip_scores(pictures, captions)
    others = clip_scores(pictures, captions[20:] + captions[:20])
    noise = [np.random.default_rng(k).integers(0, 256, (64, 64, 3)).astype(np.uint8) for k in range(16)]
    assert right.mean() > 0.6 and (right > others).mean() > 0.95
    assert others.mean() < 0.3 and clip_scores(noise, captions[:16]).mean() < 0.3


def test_every_picture_is_of_one_kind():
    listed = [key for keys in KINDS.values() for key in keys.split(",")]
    assert len(listed) == len(kinds()) and set(kinds()) == {*picture_keys(), *subject_keys()}
