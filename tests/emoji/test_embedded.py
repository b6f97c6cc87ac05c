"""The embedded model from its committed checkpoints to pictures that the judge recognises."""

import numpy as np
import pytest
from x2i.emoji.embedded import embedded_text
from x2i.emoji.world.captions import caption
from x2i.emoji.world.judge import judge
from x2i.emoji.world.vocabulary import languages
from x2i.runtime import load

from tests.bundles import SPOKEN

SCENES = (("red apple", "white"), ("rocket", "blue"), ("frog", "yellow"), ("gift", "black"))


@pytest.fixture(scope="module")
def pipeline(embedded_bundle):
    return load(embedded_bundle)


@pytest.mark.parametrize("language", SPOKEN)
@pytest.mark.parametrize(("key", "ground"), SCENES)
def test_it_draws_what_was_asked(pipeline, language, key, ground):
    verdict = judge(np.asarray(pipeline(caption(language, key, ground), language=language, seed=3).images[0]))
    assert (verdict.key, verdict.background) == (key, ground)


def test_a_prompt_without_a_background_is_drawn_on_white(pipeline):
    verdict = judge(np.asarray(pipeline("ein roter Apfel", language="German").images[0]))
    assert (verdict.key, verdict.background) == ("red apple", "white")


def test_every_committed_translator_is_a_language(tmp_path):
    parts = embedded_text(tmp_path / "bundle").parts
    assert {f"translator:{language}" for language in languages()} <= parts.keys()
