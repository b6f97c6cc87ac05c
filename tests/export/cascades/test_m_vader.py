"""M-VADER from its folder, exported and run without torch, against every recorded context, UNet call and run."""

from functools import cache

import numpy as np
import pytest
from PIL import Image
from x2i.runtime.items.weights import UNREAD, WEIGHTINGS, key_bias, key_stretch, weighted_context
from x2i.runtime.load import load
from x2i.runtime.media.clip_pixels import clip_pixels
from x2i.runtime.processes.denoiser import Denoiser

from tests.export.cascades.m_vader_cases import (
    ENCODED,
    called,
    case_names,
    contexts,
    item,
    m_vader_bundle,
    m_vader_case,
    sequence_names,
    timestep,
    tokens_of,
    unet,
    weighted_sequence,
    words,
)
from tests.numerics import assert_close, assert_near

CASES = pytest.mark.parametrize("name", case_names() or ["none"])
SEQUENCES = pytest.mark.parametrize("sequence", sequence_names() or ["none"])
ENCODINGS = pytest.mark.parametrize("encoding", ENCODED)


@cache
def pipeline():
    return load(m_vader_bundle(), "cpu")


def walked(**options):
    """The slots, the states after each step, what the denoiser gave for each side, and the output of a run."""
    states, last, seen = [], None, []
    outputs = Denoiser._outputs

    def kept(self, *given):
        made = outputs(self, *given)
        seen.append(made["noise"])
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Denoiser, "_outputs", kept)
        walk = pipeline().steps(**options)
        for step in walk:
            states.append(step.state)
            last = step
        return walk.slots, states, seen, walk.finish(last)


def slots_of(**options):
    """The slots of a run, before its first step."""
    return pipeline().steps(steps=1, **options).slots


def predicted(context, bias=None, stretch=None, sample=None):
    """What the UNet says at the recorded timestep."""
    rows, tokens, _ = context.shape
    sample = unet()["sample"][:rows] if sample is None else sample
    projected = pipeline().session("projection")(context=context)
    nothing = np.zeros((rows, tokens), np.float32)
    return pipeline().session("denoiser")(
        latents=sample,
        timestep=np.full(rows, timestep(), np.float32),
        key_bias=nothing if bias is None else bias,
        key_stretch=nothing if stretch is None else stretch,
        **projected,
    )["noise"]


def weighed(context, weights, weighting):
    """The same with weights [rows, T]."""
    contexts = np.concatenate([weighted_context(c[None], w, weighting) for c, w in zip(context, weights, strict=True)])
    bias, stretch = (np.stack([form(w, weighting) for w in weights]) for form in (key_bias, key_stretch))
    return predicted(contexts, bias, stretch)


@SEQUENCES
@ENCODINGS
def test_a_context_is_the_recorded_one(sequence, encoding):
    elements, bundle = sequence.split("_"), m_vader_bundle()
    slots = slots_of(items=[item(each) for each in elements], encoding=encoding, guidance=1.0)
    expected = contexts()[f"{encoding}_{sequence}_context"]
    assert_close(slots["context"], expected, "m-vader-context")
    lengths = contexts()[f"{encoding}_{sequence}_lengths"]
    assert slots["key_bias"].shape == slots["key_stretch"].shape == (1, lengths.sum())
    assert not slots["key_bias"].any() and not slots["key_stretch"].any()
    assert_close(predicted(slots["context"]), called(f"{encoding}_{sequence}"), "m-vader-net")
    for element in elements:
        if element.startswith("t"):
            ids = contexts()[f"text_{element[1:]}_ids"][0].tolist()
            assert tokens_of(words(ids), bundle) == ids


def test_embeddings_are_the_recorded_ones():
    recorded, session = contexts(), pipeline().session
    numbers = [name.split("_")[1] for name in recorded if name.endswith("_pixel_values")]
    for number in numbers:
        pixels = clip_pixels(
            [Image.fromarray(recorded[f"image_{number}_u8"])], recorded["image_0_pixel_values"].shape[-1]
        )
        assert_close(pixels, recorded[f"image_{number}_pixel_values"], "pixels")
        assert_close(
            session("image_prefix")(pixels=pixels)["embeds"], recorded[f"image_{number}_prefix"], "m-vader-context"
        )
    for sequence in sequence_names():
        for encoding in ENCODED:
            parts = [
                recorded[f"image_{each[1:]}_prefix"]
                if each.startswith("i")
                else session("token_embeddings")(input_ids=recorded[f"text_{each[1:]}_ids"])["embeds"]
                for each in sequence.split("_")
            ]
            assert_close(np.concatenate(parts, axis=1), recorded[f"{encoding}_{sequence}_embeds"], "m-vader-context")


def test_the_null_side_is_the_end_token_alone():
    slots = slots_of(items=[item(each) for each in max(sequence_names(), key=len).split("_")])
    read = slots["key_bias"][0] == 0
    assert_close(slots["context"][:1, read], contexts()["null_context"], "m-vader-context")
    assert (slots["key_bias"][0][~read] == UNREAD).all() and not slots["key_bias"][1].any()
    assert_close(predicted(contexts()["null_context"]), called("null"), "m-vader-net")


def test_padding_is_not_read():
    arrays = unet()
    mask, context = arrays["padded_mask"], arrays["padded_context"]
    # Both sides of the guidance are of one state.
    sample = np.repeat(arrays["sample"][:1], len(context), axis=0)
    bias = np.where(mask > 0, 0, UNREAD).astype(np.float32)
    assert_close(predicted(context, bias, sample=sample), called("padded"), "m-vader-net")
    unmasked = predicted(context, sample=sample)
    assert np.abs(unmasked - called("padded")).max() > 0.1


def weight_names():
    return [name.removeprefix("weights_") for name in unet() if name.startswith("weights_")] if case_names() else []


@pytest.mark.parametrize("name", weight_names() or ["none"])
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_weights_are_the_recorded_ones(name, weighting):
    arrays = unet()
    weights, expected = arrays[f"weights_{name}"], called(f"{weighting}_{name}")
    context = contexts()[f"joint_{weighted_sequence(name)}_context"]
    made = weighed(context, weights, weighting)
    assert_close(made, expected, "m-vader-net")
    plain = predicted(context)
    if (weights == 1).all():
        assert made.tobytes() == plain.tobytes()
    else:
        assert np.abs(made - plain).max() > 1e-2


def test_rows_of_a_batch_have_weights_of_their_own():
    arrays = unet()
    made = weighed(arrays["batch2_context"], arrays["batch2_weights"], "additive")
    assert_close(made, called("batch2_additive"), "m-vader-net")


@CASES
def test_a_run_is_the_recorded_one(name):
    case = m_vader_case(name)
    arrays, count = case.arrays, len(case.arrays["initial_latents"])
    slots, states, seen, output = walked(**case.options)
    drawn, length = slots["context"][-1:], arrays["context"].shape[1]
    assert_close(np.repeat(drawn[:, :length], count, 0), arrays["context"], "m-vader-context")
    if len(slots["context"]) == 2:
        away = slots["context"][:1, : arrays["null_context"].shape[1]]
        assert_close(np.repeat(away, count, 0), arrays["null_context"], "m-vader-context")
    assert len(states) == len(arrays["timesteps"])
    for number, noise in enumerate(seen):
        sides = noise.reshape(-1, count, *noise.shape[1:])
        assert_near(sides[-1], arrays["eps_cond"][number], "m-vader-run")
        if len(sides) == 2:
            assert_near(sides[0], arrays["eps_null"][number], "m-vader-run")
    for state, expected in zip(states, arrays["latents_after_step"], strict=True):
        assert_near(state, expected, "m-vader-run")
    assert_near(output.latents, arrays["final_latents"], "m-vader-run")
    decoded = pipeline().session("decoder")(latents=output.latents)["image"]
    assert_near(decoded[..., ::2, ::2], arrays["image_float_every2"], "m-vader-run")
    for picture, expected in zip(output.images, arrays["image_u8"], strict=True):
        assert_close(np.asarray(picture).astype(int), expected.astype(int), "m-vader-picture")
