"""Masked decoding against every recorded step and schedule of the original scheduler."""

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from x2i.runtime.inputs.option import CallContext, PreparedInputs
from x2i.runtime.token_samplers.masked_decoding import (
    MaskedDecoding,
    annealed,
    drawn_tokens,
    mask_ratio,
    masked_again,
    masked_most,
)
from x2i.runtime.token_samplers.noise import TokenNoise
from x2i.runtime.token_samplers.sampler import TokenRun

from tests.goldens import golden, golden_arrays
from tests.numerics import assert_close


def test_the_mask_ratio_of_every_schedule():
    for name, expected in golden_arrays("muse_amused/mask_ratio_float32.npz").items():
        schedule, steps = name.split("_T")
        found = [mask_ratio(schedule, step, int(steps)) for step in range(1, int(steps) + 1)]
        assert_close(found, expected, "mask-ratio")


def lengths(ratio=mask_ratio):
    """The recorded name and length of every schedule, with ours."""
    table = json.loads(golden("muse_amused/mask_len_table.json").read_text())
    for name, expected in table.items():
        schedule, tokens, steps = name.split("_")
        total, count = int(tokens[1:]), int(steps[1:])
        yield name, expected, [max(1, masked_most(total, ratio(schedule, i, count))) for i in range(1, count)]


def test_the_length_of_every_schedule_is_exact():
    assert [name for name, expected, found in lengths() if found != expected] == []


def test_a_ratio_in_float64_gives_other_lengths():
    def float64(schedule, step, steps):
        return np.cos(step / steps * np.pi / 2) if schedule == "cosine" else 1 - step / steps

    wrong = {name for name, expected, found in lengths(lambda *asked: np.float64(float64(*asked))) if found != expected}
    assert wrong


@pytest.mark.parametrize("ends", [(2, 0), (1, 0.01), (0, 0), (0.7, 1.3)])
def test_temperatures_are_those_of_torch(ends):
    import torch

    for steps in range(1, 60):
        assert_close(annealed(ends, steps), torch.linspace(*ends, steps).numpy(), "exact")


def recorded_steps():
    """Every recorded step: its settings, and its arrays with classes last."""
    arrays = golden_arrays("muse_amused/scheduler_steps.npz")
    for step in json.loads(golden("muse_amused/scheduler_steps.json").read_text()):
        own = {key.removeprefix(f"{step['id']}_"): value for key, value in arrays.items() if key.startswith(step["id"])}
        rows = len(own["sample"])
        own["sample"], own["x0"], own["prev"] = (own[key].reshape(rows, -1) for key in ("sample", "x0", "prev"))
        logits, tokens = own["logits"], own["sample"].shape[1]
        if step["ndim"] == 4:
            logits = logits.reshape(rows, -1, tokens).transpose(0, 2, 1)
        yield step, own | {"logits": logits, "exp_noise": own["exp_noise"].reshape(rows, tokens, -1)}


def stepped(step, own):
    """x0 and the state behind a recorded step."""
    mask_id, steps = step["mask_token_id"], step["steps"]
    drawn, sureness = drawn_tokens(own["sample"], own["logits"], own["exp_noise"], mask_id)
    if step["timestep"] == 0:
        return drawn, drawn
    index = steps - 1 - step["timestep"]
    ends = step["temperature"] if isinstance(step["temperature"], list) else (step["temperature"], 0.01)
    share = np.float32(step["starting_mask_ratio"]) * mask_ratio(step["schedule"], index + 1, steps)
    most = masked_most(own["sample"].shape[1], share)
    return drawn, masked_again(drawn, sureness, most, annealed(ends, steps)[index], own["uniform"], mask_id)


def test_every_recorded_step_is_exact():
    for step, own in recorded_steps():
        drawn, masked = stepped(step, own)
        assert np.array_equal(drawn, own["x0"]), step["id"]
        assert np.array_equal(masked, own["prev"]), step["id"]


MISTAKES = {
    "no starting share": {"starting_mask_ratio": 1.0},
    "the other schedule": {"schedule": "linear"},
    "a hot end": {"temperature": [9, 9]},
    "no noise in what is sure": {"temperature": [0, 0]},
}


@pytest.mark.parametrize("changed", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_noticed(changed):
    assert any(not np.array_equal(stepped(step | changed, own)[1], own["prev"]) for step, own in recorded_steps())


def full_cases():
    """The recorded runs that hold the network's answer to every step."""
    for path in sorted(golden("muse_amused").glob("*.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            if "guided_logits" in arrays.files:
                yield path.stem, dict(arrays)


def replayed(arrays, sampler, **changes):
    """A recorded run, its logits in the place of a network's, with the states that it reaches."""
    calls, rows, classes, height, width = arrays["guided_logits"].shape
    logits = iter(arrays["guided_logits"].reshape(calls, rows, classes, -1).transpose(0, 1, 3, 2))
    noise = {
        "token": arrays["exp_noise"].reshape(calls, rows, height * width, classes),
        "confidence": arrays["uniform"],
    }
    run = TokenRun(
        lambda tokens, timestep: {"logits": next(logits)},
        TokenNoise(0, rows, noise),
        rows,
        (height, width),
        {"steps": len(arrays["temperatures"])} | changes,
        {},
    )
    return sampler.step_count(run), list(sampler.walk(run))


def settings(name):
    """The sampler of the pipeline that a recorded run was made with."""
    case = json.loads(golden("muse_amused/cases.json").read_text())[name]
    folder = golden(f"muse_amused/{case['pipe']}")
    scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    transformer = json.loads((folder / "transformer" / "config.json").read_text())
    return MaskedDecoding(transformer["codebook_size"], scheduler["mask_token_id"], mask_schedule=case["schedule"])


def test_a_run_reaches_the_recorded_states():
    for name, arrays in full_cases():
        count, steps = replayed(arrays, settings(name))
        assert count == len(steps) == len(arrays["timesteps"])
        assert [step.timestep for step in steps] == arrays["timesteps"].tolist()
        for step, after, drawn in zip(steps, arrays["sample_after"], arrays["pred_original"], strict=True):
            assert np.array_equal(step.tokens, after.reshape(step.tokens.shape)), name
            assert np.array_equal(step.likely(), drawn.reshape(step.tokens.shape)), name


def toy_run(sampler, slots, count=2, grid=(3, 5), **values):
    """A run whose network likes every class alike."""
    logits = np.zeros((count, grid[0] * grid[1], sampler.classes), np.float32)
    return TokenRun(lambda tokens, t: {"logits": logits}, TokenNoise(7, count), count, grid, values, slots)


TOY = MaskedDecoding(classes=11, mask_id=13)


def test_what_is_known_stays_and_all_else_is_drawn():
    known = np.arange(15)[None] % 3 == 0
    start = np.arange(15)[None] % 11
    run = toy_run(TOY, {"start_tokens": start, "known": known}, steps=7)
    steps = list(TOY.walk(run))
    assert len(steps) == 7
    for step in steps:
        assert np.array_equal(step.tokens[:, known[0]], np.broadcast_to(start[:, known[0]], (2, 5)))
    assert (steps[-1].tokens < TOY.classes).all() and (steps[0].tokens == TOY.mask_id).any()


@pytest.mark.parametrize(
    ("slots", "values", "steps"),
    [
        ({}, {"steps": 9}, 9),
        ({}, {}, 12),
        ({"start_tokens": None}, {"steps": 9}, 4),
        ({"start_tokens": None}, {"steps": 9, "strength": 0.8}, 7),
        ({"start_tokens": None}, {"steps": 9, "tokens": np.zeros(15)}, 9),
        ({"start_tokens": None, "known": np.zeros((1, 15), bool)}, {"steps": 9}, 9),
        ({"start_tokens": None, "known": np.zeros((1, 15), bool)}, {"steps": 9, "strength": 0.5}, 4),
    ],
)
def test_how_many_steps_are_walked(slots, values, steps):
    slots = {name: np.zeros((1, 15), np.int64) if value is None else value for name, value in slots.items()}
    run = toy_run(TOY, slots, **values)
    assert TOY.step_count(run) == steps == len(list(TOY.walk(run)))


def test_a_start_is_masked_as_far_as_the_schedule_is_behind():
    start, shares, seen = np.arange(400)[None] % 11, {}, []
    for strength in (0.25, 0.75, 1.0):
        run = toy_run(TOY, {"start_tokens": start}, 3, (20, 20), steps=8, strength=strength)
        answer = run.predict(None, 0)
        run = replace(run, predict=lambda tokens, timestep, answer=answer: seen.append(tokens.copy()) or answer)
        next(TOY.walk(run))
        shares[strength] = (seen[-1] == TOY.mask_id).mean(axis=1)
        assert np.array_equal(
            seen[-1][seen[-1] != TOY.mask_id], np.broadcast_to(start, (3, 400))[seen[-1] != TOY.mask_id]
        )
    assert not shares[1.0].any()
    assert np.allclose(shares[0.25], mask_ratio("cosine", 6, 8), atol=0.1)
    assert np.allclose(shares[0.75], mask_ratio("cosine", 2, 8), atol=0.1)
    assert not np.array_equal(seen[1][0], seen[1][1])


def test_a_sent_state_takes_the_place_of_the_state():
    walk = TOY.walk(toy_run(TOY, {}, steps=4))
    next(walk)
    forced = np.full((2, 15), 3)
    forced[:, 7:9] = TOY.mask_id
    step = walk.send(forced)
    kept = np.delete(step.tokens, [7, 8], axis=1)
    assert (kept == 3).all() and (step.tokens == TOY.mask_id).sum() == 2


def test_a_draw_of_zero_wins_with_no_impossible_class():
    logits = np.full((1, 2, 4), -300.0, np.float32)
    logits[..., 2] = 0
    race = np.ones((1, 2, 4), np.float32)
    race[..., 0] = 0
    drawn, _ = drawn_tokens(np.full((1, 2), 9), logits, race, 9)
    assert drawn.tolist() == [[2, 2]]


def test_a_picture_of_one_token_is_drawn():
    steps = list(TOY.walk(toy_run(TOY, {}, 1, (1, 1), steps=3)))
    assert steps[-1].tokens[0, 0] < TOY.classes


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"temperature": [1, 2, 3]}, "temperature: expected one or two numbers, got 3"),
        ({"temperature": []}, "temperature: expected one or two numbers, got 0"),
        ({"strength": 0.1}, "strength: expected at least 0.111, one of 9 steps, got 0.1"),
    ],
)
def test_what_cannot_be_walked_is_refused(values, problem):
    made = PreparedInputs()
    given = {"temperature": None, "strength": None, "mask": None} | values
    TOY.prepare(CallContext(given, None, None, 2, 9), made)
    (line,) = made.problems
    assert line.startswith(problem)


def test_a_strength_that_leaves_no_step_is_told_whatever_number_it_is():
    made = PreparedInputs()
    values = {"temperature": None, "strength": Fraction(1, 3), "mask": None}
    MaskedDecoding(5, 5).prepare(CallContext(values, None, None, 1, 2), made)
    assert made.problems == ["strength: expected at least 0.5, one of 2 steps, got Fraction(1, 3)"]
