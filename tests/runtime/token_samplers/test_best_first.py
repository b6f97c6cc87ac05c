"""DDCap's captions, token by token, against the authors' runs; and what of them a mistake would change."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from x2i.models.token_transformers.ddcap import CaptionDenoiser, PictureCondition, PictureProjection
from x2i.runtime.inputs.option import CallContext, PreparedInputs
from x2i.runtime.token_samplers.best_first import BestFirst, peak_of_softmax
from x2i.runtime.token_samplers.log_probabilities import guided_log_probabilities, log_softmax
from x2i.runtime.token_samplers.noise import TokenNoise
from x2i.runtime.token_samplers.sampler import Predict, TokenRun, TokenStep

from tests.goldens import golden, golden_arrays
from tests.models.token_transformers.ddcap_goldens import CASES, FOLDER, model, networks
from tests.numerics import assert_close

Guide = Callable[[np.ndarray, np.ndarray, float], np.ndarray]


def guided(unconditional: np.ndarray, conditional: np.ndarray, scale: float) -> np.ndarray:
    return guided_log_probabilities(log_softmax(unconditional), log_softmax(conditional), scale)


def conditions(case: str) -> tuple[torch.Tensor, np.ndarray]:
    """The conditions of both sides, [2 count, P, D], and the logits of the lengths, which force those of the case."""
    tag, indices = CASES[case]["checkpoint"], golden_arrays(f"{FOLDER}/{case}.npz")["image_index"]
    encode = PictureCondition(model(tag))
    with torch.no_grad():
        found = [encode(torch.from_numpy(networks(tag)["pixels"][index])[None]) for index in indices]
    sides = [torch.stack([context[side] for context, _ in found]) for side in range(2)]
    lengths = np.concatenate([each.numpy() for _, each in found])
    if not CASES[case]["natural"]:
        lengths = np.eye(lengths.shape[1], dtype=np.float32)[np.asarray(CASES[case]["lengths"]) - 1]
    return torch.cat(sides), lengths


def predict(case: str, context: torch.Tensor, guide: Guide) -> Predict:
    net = model(CASES[case]["checkpoint"])
    denoiser = CaptionDenoiser(net)
    with torch.no_grad():
        projected = PictureProjection(net)(context)

    @torch.no_grad()
    def called(tokens: np.ndarray, timestep: Any) -> dict[str, np.ndarray]:
        ids, times = (torch.from_numpy(np.concatenate([each, each])) for each in (tokens, timestep))
        unconditional, conditional = denoiser(ids, times, *projected).numpy().reshape(2, *tokens.shape, -1)
        return {"logits": guide(unconditional, conditional, CASES[case]["guidance_scale"])}

    return called


def sampler(case: str) -> BestFirst:
    sizes = model(CASES[case]["checkpoint"]).sizes
    return BestFirst(CASES[case]["time_step"], sizes.tokens, sizes.mask_id)


def token_run(lengths: np.ndarray, called: Predict, length: int | None = None) -> TokenRun:
    count, most = lengths.shape
    return TokenRun(called, TokenNoise(0, count), count, (1, most), {"length": length}, {"length_logits": lengths})


def walked(case: str, change: Callable[[BestFirst], BestFirst] = lambda same: same, guide: Guide = guided) -> Iterator:
    context, lengths = conditions(case)
    return change(sampler(case)).walk(token_run(lengths, predict(case, context, guide)))


@pytest.mark.parametrize("case", CASES)
def test_tokens_after_every_call(case: str) -> None:
    context, lengths = conditions(case)
    run, arrays = token_run(lengths, predict(case, context, guided)), golden_arrays(f"{FOLDER}/{case}.npz")
    assert sampler(case).step_count(run) == CASES[case]["calls"]
    assert_close(sampler(case).lengths(run), arrays["len_pre"], "exact")
    steps = list(sampler(case).walk(run))
    assert_close(np.stack([step.tokens for step in steps]), arrays["tokens_after"], "exact")
    assert [step.timestep for step in steps] == arrays["t"].max(axis=1).tolist()
    assert_close(steps[-1].tokens, arrays["final_tokens"], "exact")


@pytest.mark.parametrize("case", CASES)
def test_any_state_may_be_sent_in(case: str) -> None:
    """From the authors' state before each call its next one follows, whatever was reached before."""
    expected = golden_arrays(f"{FOLDER}/{case}.npz")["tokens_after"]
    walk = walked(case)
    assert_close(next(walk).tokens, expected[0], "exact")
    for before, after in pairwise(expected):
        assert_close(walk.send(before.copy()).tokens, after, "exact")


@pytest.mark.parametrize("case", CASES)
def test_what_is_likely_fills_every_place(case: str) -> None:
    arrays = golden_arrays(f"{FOLDER}/{case}.npz")
    inside = np.arange(arrays["final_tokens"].shape[1]) < arrays["len_pre"][:, None]
    mask = sampler(case).mask_id
    for step, guesses in zip(walked(case), arrays["argmax_tokens"], strict=True):
        likely = step.likely()
        assert (likely[inside] != mask).all() and (likely[~inside] == mask).all()
        hidden = inside & (step.tokens == mask)
        assert np.array_equal(likely[hidden], guesses[hidden])


@pytest.mark.parametrize("case", [case for case in CASES if len(CASES[case]["lengths"]) == 1])
def test_a_length_that_is_asked_for(case: str) -> None:
    """The same whether the picture or the caller decides."""
    context, lengths = conditions(case)
    run = token_run(np.roll(lengths, 1), predict(case, context, guided), CASES[case]["lengths"][0])
    *_, last = sampler(case).walk(run)
    assert_close(last.tokens, np.asarray(CASES[case]["final_tokens"]), "exact")


@pytest.mark.parametrize("case", CASES)
def test_order_of_recorded_logits(case: str) -> None:
    """Where the logits of every call are recorded: the probabilities behind the order, without a network."""
    arrays = golden_arrays(f"{FOLDER}/{case}.npz")
    if "cond_logits" not in arrays:
        pytest.skip("its logits are recorded for the first and the last call alone")
    scale = CASES[case]["guidance_scale"]
    recorded = zip(arrays["uncond_logits"], arrays["cond_logits"], strict=True)
    said = [guided(unconditional, conditional, scale) for unconditional, conditional in recorded]
    assert_close(np.exp(said[-1]), arrays["guided_prob_last"], "ddcap-probabilities")
    seen = arrays["confidence"] >= 0
    assert_close(peak_of_softmax(np.exp(np.stack(said)))[seen], arrays["confidence"][seen], "ddcap-confidence")
    answers = iter(said)
    lengths = np.eye(arrays["final_tokens"].shape[1])[arrays["len_pre"] - 1]
    steps = list(sampler(case).walk(token_run(lengths, lambda tokens, timestep: {"logits": next(answers)})))
    assert_close(np.stack([step.tokens for step in steps]), arrays["tokens_after"], "exact")


def test_quotas() -> None:
    """The authors' table, which sums to the length save for one entry, where it leaves a mask; ours reveals all."""
    table = json.loads(golden(f"{FOLDER}/quota_table.json").read_text("utf-8"))
    differ = set()
    for name, expected in table.items():
        steps, length = (int(part[1:]) for part in name.split("_"))
        # Beyond the timesteps, so that there is a quota, and the other row's length is what counts here.
        lengths = np.eye(21, dtype=np.float32)[[length - 1, 20]]

        def sure(tokens: np.ndarray, timestep: Any) -> dict[str, np.ndarray]:
            return {"logits": np.zeros((*tokens.shape, 3), np.float32)}

        walk = BestFirst(steps, 21, 9).walk(token_run(lengths, sure))
        left = [length, *((step.tokens[0, :length] == 9).sum() for step in walk)]
        assert left[-1] == 0
        if (-np.diff(left)).tolist() != expected:
            differ.add(name)
    assert differ == {name for name, quotas in table.items() if sum(quotas) != int(name.split("_L")[1])}


def test_of_equally_sure_places_the_first_is_revealed() -> None:
    same = np.zeros((2, 5, 3), np.float32)
    steps = list(BestFirst(5, 5, 7).walk(token_run(np.eye(5)[[4, 2]], lambda tokens, timestep: {"logits": same})))
    assert [(step.tokens[0] != 7).sum() for step in steps] == [1, 2, 3, 4, 5]
    assert all((step.tokens[0, : number + 1] == 0).all() for number, step in enumerate(steps))
    assert (steps[-1].tokens[1] == [0, 0, 0, 7, 7]).all()


def not_renormalised(unconditional: np.ndarray, conditional: np.ndarray, scale: float) -> np.ndarray:
    one, other = log_softmax(unconditional), log_softmax(conditional)
    return np.clip(one + np.float32(scale) * (other - one), -70, 0)


def unguided(unconditional: np.ndarray, conditional: np.ndarray, scale: float) -> np.ndarray:
    return log_softmax(conditional)


QUOTAS = "one token a call in every case"
MISTAKES: dict[str, dict[str, Any]] = {
    "no renormalisation after guidance": {"guide": not_renormalised},
    "no guidance": {"guide": unguided},
    "another first timestep": {"change": lambda right: replace(right, first_timestep=10)},
    QUOTAS: {"change": lambda right: replace(right, timesteps=20)},
}


def same_run(case: str, steps: Iterator[TokenStep]) -> bool:
    expected = golden_arrays(f"{FOLDER}/{case}.npz")["tokens_after"]
    made = list(steps)
    return len(made) == len(expected) and all(
        np.array_equal(one.tokens, each) for one, each in zip(made, expected, strict=True)
    )


@pytest.mark.skipif(not CASES, reason="the runs are of the full set")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_seen(mistake: str) -> None:
    if mistake == QUOTAS and all(case["branch"] == "one_per_step" for case in CASES.values()):
        pytest.skip("no case has quotas")
    assert not all(same_run(case, walked(case, **MISTAKES[mistake])) for case in CASES)


WRONG_INPUTS: dict[str, Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    "the batch's timestep for every row": lambda tokens, times: (tokens, np.full_like(times, times.max())),
    "revealed tokens not fed back": lambda tokens, times: (np.full_like(tokens, tokens.max()), times),
}


@pytest.mark.skipif(not CASES, reason="the runs are of the full set")
@pytest.mark.parametrize("mistake", WRONG_INPUTS)
def test_a_call_with_another_input_is_seen(mistake: str) -> None:
    def wrong(case: str) -> Iterator[TokenStep]:
        context, lengths = conditions(case)
        right = predict(case, context, guided)

        def called(tokens: np.ndarray, timestep: Any) -> dict[str, np.ndarray]:
            return right(*WRONG_INPUTS[mistake](tokens, timestep))

        return sampler(case).walk(token_run(lengths, called))

    assert not all(same_run(case, wrong(case)) for case in CASES)


@pytest.mark.skipif(not CASES, reason="the runs are of the full set")
@pytest.mark.parametrize("offset", ["one less", "all places"])
def test_another_length_is_seen(offset: str) -> None:
    """argmax without the one more; and places behind the length that may be chosen."""

    def wrong(case: str) -> bool:
        context, lengths = conditions(case)
        last = np.eye(lengths.shape[1])[np.full(len(lengths), -1)]
        run = token_run(np.roll(lengths, -1, 1) if offset == "one less" else last, predict(case, context, guided))
        *_, end = sampler(case).walk(run)
        right = np.asarray(CASES[case]["final_tokens"])
        inside = np.arange(right.shape[1]) < np.asarray(CASES[case]["lengths"])[:, None]
        return not np.array_equal(end.tokens[inside], right[inside])

    assert any(wrong(case) for case in CASES)


def problems(**values: object) -> list[str]:
    made = PreparedInputs()
    given = {"length": None, "steps": None, "noise": None} | values
    BestFirst(5, 7, 9).prepare(CallContext(given, None, None, 2, 5), made)
    return made.problems


@pytest.mark.parametrize("length", [0, -1, 8, 2.5, True, "3"])
def test_an_impossible_length_is_refused(length: object) -> None:
    assert problems(length=length) == [
        f"length: expected a whole number of tokens from 1 to 7, got {length!r}; leave it out and the picture decides"
    ]


@pytest.mark.parametrize("length", [None, 1, 7])
def test_a_possible_length_is_taken(length: int | None) -> None:
    assert not problems(length=length)


def test_what_would_change_nothing_is_refused() -> None:
    assert problems(steps=5, noise=np.zeros(3)) == [
        "steps: the caption's length decides; leave it out",
        "noise: nothing is drawn at random here; leave it out",
    ]


@pytest.mark.parametrize(("timesteps", "steps"), [(3, 20), (20, 20), (23, 23)])
def test_every_timestep_is_below_the_steps(timesteps: int, steps: int) -> None:
    """The first is 19 of any model, so that a segment of a plan must serve it."""
    reached = []

    def noted(tokens: np.ndarray, timestep: Any) -> dict[str, np.ndarray]:
        reached.append(timestep.max())
        return {"logits": np.zeros((*tokens.shape, 2), np.float32)}

    sampler = BestFirst(timesteps, 30, 9)
    for length in (1, 3, 22, 30):
        list(sampler.walk(token_run(np.eye(30)[[length - 1]], noted)))
    assert sampler.steps == steps == max(reached) + 1
