"""What a run of mask-and-replace diffusion may be told: the calls that follow, and one line for each mistake."""

import math
from typing import Any

import numpy as np
import pytest
from x2i.runtime.bundle.records import decode, encode
from x2i.runtime.errors import InputError
from x2i.runtime.inputs.option import CallContext, PreparedInputs
from x2i.runtime.token_samplers.mask_replace import MaskReplace
from x2i.runtime.token_samplers.network_calls import chosen_calls, strided_calls
from x2i.runtime.token_samplers.noise import TokenNoise
from x2i.runtime.token_samplers.reveal_priors import FEW_REVEALS, REVEAL_COUNTS, REVEAL_LENGTH, reveal_calls
from x2i.runtime.token_samplers.sampler import TokenRun

from tests.runtime.token_samplers.mask_goldens import options

GRID = (32, 32)


def problems(sampler: MaskReplace, grid: tuple[int, int] = GRID, **given: Any) -> list[str]:
    made = PreparedInputs()
    steps = given.get("steps") or sampler.steps
    sampler.prepare(CallContext(options(**given), None, None, 1, steps, grid=grid), made)
    return made.problems


def run_of(sampler: MaskReplace, slots: dict[str, np.ndarray], **given: Any) -> TokenRun:
    def predict(tokens: np.ndarray, timestep: np.ndarray | int) -> dict[str, np.ndarray]:
        return {"logits": np.full((*tokens.shape, sampler.classes), -math.log(sampler.classes), np.float32)}

    return TokenRun(predict, TokenNoise(0, 2), 2, (2, 3), options(**given), slots)


WRONG = [
    ({}, {"truncation": 0.5, "untruncated": True}, "truncation: is switched off by untruncated"),
    ({"strides": False}, {"fast": 3}, "fast: this bundle visits all of its 100 timesteps, got 3"),
    ({"steps": 9}, {"fast": 10}, "fast: expected at most the 9 timesteps of this bundle, got 10"),
    ({}, {"prior": "purity", "fast": 3}, "fast: leaves timesteps out, of which a prior reveals tokens"),
    ({"priors": False}, {"prior": "uniform"}, "prior: this bundle draws every token from its posterior"),
    ({"priors": False}, {"reveals": 7}, "reveals: this bundle draws every token from its posterior"),
    ({"priors": False}, {"prior_weight": 0.5}, "prior_weight: this bundle draws every token from its posterior"),
    ({"steps": 80}, {"prior": "uniform"}, "prior: expected 1024 tokens and 10, 25, 50 or 100 timesteps"),
    ({"steps": 80, "priors": False}, {"reveals": 5}, "reveals: expected 1024 tokens and 10, 25, 50 or 100 timesteps"),
    ({}, {"prior": "none", "reveals": 7}, "reveals: expected a prior that reveals tokens, got none"),
    ({}, {"prior": "uniform", "prior_weight": 1.0}, "prior_weight: weighs by purity"),
    ({}, {"prior_weight": 1.0}, "prior_weight: weighs by purity"),
    ({}, {"steps": 52}, "steps: expected a number of network calls that some stride through 100 timesteps makes"),
    ({}, {"steps": 1}, "steps: expected a number of network calls that some stride through 100 timesteps makes"),
    ({}, {"steps": 101}, "steps: expected a number of network calls that some stride through 100 timesteps makes"),
    ({}, {"steps": "many"}, "steps: expected a number of network calls that some stride through 100 timesteps makes"),
    ({}, {"steps": 50, "fast": 2}, "steps: expected 51, the network calls of such a run, got 50"),
    ({"strides": False}, {"steps": 51}, "steps: expected 100, the network calls of such a run, got 51"),
    ({"steps": 10}, {"steps": 11, "prior": "purity"}, "steps: expected 10, the network calls of such a run, got 11"),
]


@pytest.mark.parametrize(("record", "given", "line"), WRONG, ids=lambda value: str(value)[:50])
def test_what_is_wrong_takes_one_line(record: dict[str, Any], given: dict[str, Any], line: str) -> None:
    sampler = MaskReplace(classes=7, **{"priors": True} | record)
    (found,) = problems(sampler, **given)
    assert found.startswith(line)
    assert not problems(sampler)


@pytest.mark.parametrize("priors", [True, False])
def test_a_prior_needs_the_tokens_that_its_counts_add_up_to(priors: bool) -> None:
    sampler = MaskReplace(classes=7, priors=priors)
    assert bool(problems(sampler, prior="purity", prior_weight=0.5, reveals=9)) != priors
    (found,) = problems(sampler, (8, 8), prior="purity")
    assert "expected 1024 tokens" in found and "got 64 and 100" in found


@pytest.mark.parametrize("steps", [2, 3, 10, 80, 97, 100])
def test_a_number_of_steps_finds_the_smallest_stride(steps: int) -> None:
    sampler = MaskReplace(classes=7, steps=steps)
    known = {}
    for stride in reversed(range(1, steps + 1)):
        calls = strided_calls(steps, stride)
        # As the originals walk: down by the stride, and the first one appended where it was missed.
        visited = list(range(steps - 1, -1, -stride))
        assert [call.timestep for call in calls] == visited + [0] * (visited[-1] != 0)
        known[len(calls)] = calls
    for count in range(1, steps + 1):
        if count in known:
            assert not problems(sampler, steps=count)
            assert chosen_calls(options(steps=count), steps, steps) == known[count]
        else:
            (found,) = problems(sampler, steps=count)
            named = found.partition("such as ")[2].partition(", got")[0].replace(" or", ",").split(", ")
            assert {int(number) for number in named} <= known.keys()


@pytest.mark.parametrize("steps", REVEAL_COUNTS)
@pytest.mark.parametrize("most", [1, 6, FEW_REVEALS, FEW_REVEALS + 1, 51, REVEAL_LENGTH])
def test_reveals_never_exceed_the_masks(steps: int, most: int) -> None:
    """The original would look for masks without end where there are fewer than it means to reveal."""
    calls = reveal_calls(steps, most)
    assert {timestep for timestep, _ in calls} == set(range(steps)) and calls[-1] == (0, 0)
    assert all(1 <= number <= most + 1 for _, number in calls[:-1])
    assert REVEAL_LENGTH - max(REVEAL_COUNTS[steps][0], 1) <= sum(number for _, number in calls) <= REVEAL_LENGTH


def test_few_reveals_at_100_timesteps_have_counts_of_their_own() -> None:
    few, more = (dict(reversed(reveal_calls(100, most))) for most in (FEW_REVEALS, FEW_REVEALS + 1))
    assert (few[1], more[1]) == (6, 10)


def test_reveals_alone_mean_the_even_prior() -> None:
    sampler = MaskReplace(classes=7, steps=10, priors=True)
    calls = reveal_calls(10, 51)
    assert not problems(sampler, reveals=51, steps=len(calls))
    run = run_of(sampler, {}, reveals=51)
    assert sampler.step_count(run) == len(calls) == 20


@pytest.mark.parametrize(
    ("slots", "given", "line"),
    [
        ({"start_tokens": np.zeros((1, 6), np.int64)}, {"strength": 0.0}, "strength: expected a share of the 25"),
        ({"start_tokens": np.zeros((1, 6), np.int64)}, {"strength": 0.039}, "strength: expected a share of the 25"),
        ({"start_tokens": np.zeros((1, 6), np.int64)}, {"strength": 1.04}, "strength: expected a share of the 25"),
        ({"start_tokens": np.zeros((1, 6), np.int64)}, {}, "strength: expected a share of the 25"),
        (
            {"start_tokens": np.full((1, 6), 7)},
            {"strength": 0.5},
            "start_tokens: expected int64 [1 or 2, 6] from 0 to 6",
        ),
        ({"start_tokens": np.zeros((3, 6), np.int64)}, {"strength": 0.5}, "start_tokens: expected int64 [1 or 2, 6]"),
        ({"start_tokens": np.zeros((1, 5), np.int64)}, {"strength": 0.5}, "start_tokens: expected int64 [1 or 2, 6]"),
        (
            {"start_tokens": np.zeros((1, 6), np.int64)},
            {"strength": 0.5, "prior": "uniform"},
            "prior: expected masks to reveal",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_tokens_to_start_from_are_looked_at(slots: dict[str, np.ndarray], given: dict[str, Any], line: str) -> None:
    sampler = MaskReplace(classes=7, steps=25, priors=True)
    with pytest.raises(InputError) as raised:
        list(sampler.walk(run_of(sampler, slots, **given)))
    assert str(raised.value).startswith(line)


def test_a_start_from_tokens_takes_its_share_of_the_steps() -> None:
    sampler = MaskReplace(classes=7, steps=25)
    start = {"start_tokens": np.arange(6)[None]}
    for strength, fast, expected in ((0.04, None, [0]), (0.3, None, [*range(6, -1, -1)]), (1.0, 10, [24, 14, 4, 0])):
        run = run_of(sampler, start, strength=strength, fast=fast)
        steps = list(sampler.walk(run))
        assert [step.timestep for step in steps] == expected and sampler.step_count(run) == len(expected)


def test_the_record_goes_through_json() -> None:
    sampler = MaskReplace(classes=7, steps=80, masked=(9e-6, 0.9), mask_replaces=True, truncation=0.85)
    assert decode(MaskReplace, encode(sampler), "sampler") == sampler
    assert encode(sampler)["name"] == "mask_replace"
    assert "80 timesteps" in sampler.describe() and "0.85" in sampler.describe()


@pytest.mark.parametrize(
    "given",
    [{"kept": (0.9, 0.1), "masked": (0.2, 0.95)}, {"kept": (1.0, 0.5)}, {"kept": (0.1, 0.9)}, {"masked": (0.9, 0.1)}],
    ids=str,
)
def test_a_schedule_that_cannot_be_walked_is_a_problem(given: dict[str, Any]) -> None:
    (found,) = MaskReplace(classes=7, steps=5, **given).problems()
    assert found.startswith("plan: expected a schedule in which each timestep keeps, replaces and masks")
    assert not MaskReplace(classes=7, steps=5).problems()


def test_priors_need_counts() -> None:
    (found,) = MaskReplace(classes=7, steps=80, priors=True).problems()
    assert found.startswith("plan: expected steps among [10, 25, 50, 100] for priors, got 80")
