"""Which two bundles mix: a sound's, and one that reads prompts into the context of the very same denoiser."""

from dataclasses import replace

import numpy as np
import pytest
from x2i.runtime import load
from x2i.runtime.bundle.manifest import File
from x2i.runtime.bundle.reader import Bundle, open_bundle
from x2i.runtime.errors import InputError
from x2i.runtime.inputs.sound import mixed
from x2i.runtime.text_bundle import check_mixable

SOUND = (np.sin(np.arange(5000) / 7).astype(np.float32), 8000)


@pytest.fixture(scope="module")
def sound(sound_bundle):
    return open_bundle(sound_bundle)


@pytest.fixture(scope="module")
def text(tiny_bundle):
    return open_bundle(tiny_bundle)


def altered(bundle: Bundle, graph: str) -> Bundle:
    """The bundle as if that graph had been exported from another base."""
    file = bundle.manifest.graphs[graph].file
    files = bundle.manifest.files | {file: File(bundle.manifest.files[file].bytes, "0" * 64)}
    return Bundle(bundle.folder, replace(bundle.manifest, files=files))


def test_the_unconditional_side_is_the_texts():
    sound, text = np.random.default_rng(4).standard_normal((2, 2, 11, 3)).astype(np.float32)
    made = mixed(sound, text, 3)
    assert np.array_equal(made[0], text[0]) and not np.array_equal(made[1], text[1])
    assert np.array_equal(mixed(sound, text[1:], 3), made[1:])


def test_one_base_is_told_by_its_files(sound, text):
    check_mixable(sound, text)
    for graph in ("denoiser", "projection"):
        with pytest.raises(InputError, match=f"got another {graph}; export both with the same --base"):
            check_mixable(sound, altered(text, graph))


@pytest.mark.parametrize("other", ["elite_bundle", "fastcomposer_bundle", "sound_bundle"])
def test_a_text_bundle_draws_from_a_prompt_alone(sound, other, request):
    with pytest.raises(InputError, match="expected a bundle that draws from a prompt alone"):
        check_mixable(sound, open_bundle(request.getfixturevalue(other)))


def test_only_a_sound_is_mixed(text):
    with pytest.raises(InputError, match="expected a bundle that draws from a sound, got gluegen-text"):
        check_mixable(text, text)


def test_both_folders_are_looked_at(tmp_path):
    with pytest.raises(InputError) as refused:
        load(tmp_path / "a", text_bundle=tmp_path / "b")
    assert len(refused.value.problems) == 2


def test_problems_of_sound_and_prompt_are_told_together(sound_bundle, tiny_bundle):
    pipeline = load(sound_bundle, text_bundle=tiny_bundle)
    with pytest.raises(InputError) as refused:
        pipeline("a street", sound=SOUND, mix=99, language="Klingon", steps=0)
    assert len(refused.value.problems) == 3, refused.value.problems
    with pytest.raises(InputError, match="mix: expected a prompt and a text bundle"):
        pipeline(sound=SOUND, mix=5, steps=1)
    with pytest.raises(TypeError, match="mixes"):
        pipeline(sound=SOUND, mixes=True, mix=5, steps=1)
    with pytest.raises(InputError) as refused:
        pipeline("a street", sound=SOUND, language="French", guidance=float("nan"))
    assert len(refused.value.problems) == 1
    with pytest.raises(InputError, match="negative: this bundle reads no text"):
        pipeline(sound=SOUND, negative="rain", steps=1)


def test_guidance_switched_off_mixes_one_side(sound_bundle, tiny_bundle):
    pipeline = load(sound_bundle, text_bundle=tiny_bundle)
    options = {"sound": SOUND, "language": "French", "steps": 2, "size": (16, 16)}
    drawn = [pipeline(prompt, guidance=1.0, **options).latents for prompt in ("une rue", "un jardin")]
    assert np.abs(drawn[0] - drawn[1]).max() > 1e-4
