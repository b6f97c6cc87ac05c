"""The multinomial process against UniD3's own class: its functions, and its runs draw by draw."""

from dataclasses import replace

import numpy as np
import pytest
from x2i.runtime.token_samplers import multinomial
from x2i.runtime.token_samplers.multinomial import MultinomialDiffusion, cosine_tables

from tests.goldens import golden_arrays
from tests.numerics import assert_close
from tests.runtime.token_samplers.unid3_runs import (
    as_read,
    classes_last,
    in_order,
    recorded_runs,
    states,
    token_run,
    uniforms,
)

FOLDER = "unid3/multinomial"
BUFFERS = {
    "log_alpha": "kept",
    "log_1_min_alpha": "renewed",
    "log_cumprod_alpha": "kept_so_far",
    "log_1_min_cumprod_alpha": "renewed_so_far",
}


def functions():
    return golden_arrays(f"{FOLDER}/functions.npz")


def posteriors(arrays):
    process = MultinomialDiffusion(arrays["posterior"].shape[1], len(arrays["buffer_log_alpha"]))
    said = zip(classes_last(arrays["log_x0"]), arrays["x_t"], arrays["t"], strict=True)
    return np.stack([process.posterior(clean, tokens, int(t)) for clean, tokens, t in said])


def traced_runs():
    """Those that keep what the network said."""
    return {name: run for name, run in recorded_runs(FOLDER).items() if "logp_x0" in run}


def walk_traced(run, noise):
    """What the walk asks about and leaves, where the network says what it said in the recorded run."""
    steps, count, classes, length = run["logp_x0"].shape
    read = []
    predict = as_read(in_order(classes_last(run["logp_x0"]), lambda said: {"logits": said}), read)
    process = MultinomialDiffusion(classes, steps)
    left = list(states(process, token_run(predict, noise, count, length)))
    return np.stack(read), np.stack(left)


def test_the_schedule_is_the_authors():
    arrays = functions()
    tables = cosine_tables(len(arrays["buffer_log_alpha"]))
    for buffer, name in BUFFERS.items():
        assert_close(getattr(tables, name), arrays[f"buffer_{buffer}"], "unid3-schedule")
    for name in (name for name in arrays if name.startswith("cosine_alphas_T")):
        kept = cosine_tables(int(name.removeprefix("cosine_alphas_T"))).kept
        assert_close(np.exp(kept), arrays[name], "unid3-schedule")


def test_the_posterior_is_the_authors_at_every_timestep():
    arrays = functions()
    assert_close(posteriors(arrays), classes_last(arrays["posterior"]), "unid3-posterior")


def test_a_schedule_without_the_root_is_another(monkeypatch):
    arrays = functions()
    right = cosine_tables(len(arrays["buffer_log_alpha"]))
    monkeypatch.setattr(multinomial, "cosine_tables", lambda steps: replace(right, kept_so_far=2 * right.kept_so_far))
    with pytest.raises(AssertionError, match="unid3-posterior"):
        assert_close(posteriors(arrays), classes_last(arrays["posterior"]), "unid3-posterior")


def test_at_timestep_0_the_one_step_term_still_counts():
    arrays = functions()
    (first,) = np.flatnonzero(arrays["t"] == 0)
    with pytest.raises(AssertionError, match="unid3-posterior"):
        assert_close(arrays["log_x0"][first], arrays["posterior"][first], "unid3-posterior")


def test_a_traced_run_is_walked_token_by_token():
    for run in traced_runs().values():
        draws = uniforms(run["noise_u16"])
        read, left = walk_traced(run, {"start": draws[:1], "draw": draws[1:]})
        assert np.array_equal(read, run["x_in"])
        assert np.array_equal(left, run["draw_tokens"][1:])


def test_the_start_is_a_draw_of_its_own():
    """Whoever starts from another draw walks elsewhere."""
    for run in traced_runs().values():
        draws = uniforms(run["noise_u16"])
        read, _ = walk_traced(run, {"start": draws[1:2], "draw": draws[1:]})
        assert not np.array_equal(read[0], run["x_in"][0])


def test_known_tokens_stand_from_the_start_on():
    random = np.random.default_rng(3)
    steps, count, length, classes = 5, 2, 7, 9
    known, given = random.random((count, length)) < 0.4, random.integers(0, classes, (count, length))
    logits = random.standard_normal((count, length, classes), np.float32)
    noise = {
        "start": random.random((1, count, length, classes), np.float32),
        "draw": random.random((steps, count, length, classes), np.float32),
    }
    read = []
    predict = as_read(lambda tokens, timestep: {"logits": logits}, read)
    slots = {"known": known, "start_tokens": given}
    run = token_run(predict, noise, count, length, slots=slots)
    left = list(states(MultinomialDiffusion(classes, steps), run))
    assert len(left) == MultinomialDiffusion(classes, steps).step_count(run) == steps
    assert all(np.array_equal(tokens[known], given[known]) for tokens in (*read, *left))
    assert not np.array_equal(left[-1], given)


def test_a_replaced_state_is_walked_on_from():
    steps, count, length, classes = 3, 1, 4, 5
    random = np.random.default_rng(4)
    noise = {
        "start": random.random((1, count, length, classes), np.float32),
        "draw": random.random((steps, count, length, classes), np.float32),
    }
    read = []
    logits = random.standard_normal((count, length, classes), np.float32)
    predict = as_read(lambda tokens, timestep: {"logits": logits}, read)
    walk = MultinomialDiffusion(classes, steps).walk(token_run(predict, noise, count, length))
    step = next(walk)
    assert np.array_equal(step.likely(), logits.argmax(axis=-1))
    walk.send(np.full((count, length), 3))
    assert (read[1] == 3).all()
