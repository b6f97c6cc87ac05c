"""The embedded model from its committed checkpoints to pictures that the judge recognises."""

import numpy as np
import pytest
from x2i.emoji.embedded import embedded_text
from x2i.emoji.world.captions import caption
from x2i.emoji.world.judge import judge
from x2i.emoji.world.vocabulary import languages
from x2i.runtime import load
from x2i.runtime.bundle.reader import open_bundle

from tests.bundles import SPOKEN, t5_bundle

SCENES = (("red apple", "white"), ("rocket", "blue"), ("frog", "yellow"), ("gift", "black"))


@pytest.fixture(scope="module")
def pipeline(embedded_bundle):
    return load(embedded_bundle)


@pytest.mark.parametrize("language", SPOKEN)
@pytest.mark.parametrize(("key", "ground"), SCENES)
def test_it_draws_what_was_asked(pipeline, language, key, ground):
    verdict = judge(np.asarray(pipeline(caption(language, key, ground), language=language, seed=3).images[0]))
    assert (verdict.key, verdict.background) == (key, ground)


def test_a_t5_draws_what_was_asked_through_the_same_base(embedded_bundle):
    own, plain = (open_bundle(folder).manifest for folder in (t5_bundle(), embedded_bundle))
    for name in ("projection", "denoiser", "decoder"):
        files = [(graph.file, *graph.data) for graph in (own.graphs[name], plain.graphs[name])]
        assert [own.files[file].sha256 for file in files[0]] == [plain.files[file].sha256 for file in files[1]]
    pipeline = load(t5_bundle())
    for key, ground in SCENES:
        verdict = judge(np.asarray(pipeline(caption("English", key, ground), language="T5", seed=3).images[0]))
        assert (verdict.key, verdict.background) == (key, ground)


def test_a_prompt_without_a_background_is_drawn_on_white(pipeline):
    verdict = judge(np.asarray(pipeline("ein roter Apfel", language="German").images[0]))
    assert (verdict.key, verdict.background) == ("red apple", "white")


def test_every_committed_translator_is_a_language(tmp_path):
    parts = embedded_text(tmp_path / "bundle").parts
    assert {f"translator:{language}" for language in languages()} <= parts.keys()
