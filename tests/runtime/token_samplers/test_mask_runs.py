"""Every run of the originals, token for token after every step; and what would pass in silence if done wrong."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from x2i.runtime.token_samplers import mask_replace
from x2i.runtime.token_samplers.log_probabilities import guided_log_probabilities, truncated
from x2i.runtime.token_samplers.mask_replace import MaskReplace
from x2i.runtime.token_samplers.network_calls import TokenCall, chosen_calls
from x2i.runtime.token_samplers.sampler import TokenRun

from tests.numerics import assert_close
from tests.runtime.token_samplers.mask_goldens import GoldenRun, classes_last, golden_runs
from tests.runtime.token_samplers.mask_networks import Recording, case_of, networks_of, walk_of

RUNS = pytest.mark.parametrize("golden_run", golden_runs())


def walked(sampler: MaskReplace, run: TokenRun) -> np.ndarray:
    """The tokens after every step, [calls, count, length]."""
    return np.stack([step.tokens for step in sampler.walk(run)])


def forced(sampler: MaskReplace, run: TokenRun, states: np.ndarray) -> np.ndarray:
    """The tokens after every step, each from the state that the original had before it."""
    walk = sampler.walk(run)
    found = [next(walk).tokens]
    found += [walk.send(state).tokens for state in states[:-1].astype(np.int64)]
    return np.stack(found)


@RUNS
def test_every_token_of_every_step_is_the_originals(golden_run: GoldenRun) -> None:
    arrays, predict = golden_run.arrays, Recording(networks_of(golden_run))
    sampler, run = walk_of(golden_run, predict)
    assert sampler.step_count(run) == len(arrays["call_t"])
    np.testing.assert_array_equal(walked(sampler, run), arrays["tokens_after"])
    assert predict.timesteps == arrays["call_t"].tolist()
    if "posterior_t" not in arrays:
        return
    calls = chosen_calls(run.values, sampler.steps, sampler.steps)
    assert [call.posterior_timestep for call in calls] == arrays["posterior_t"].tolist()
    if "select_count" in arrays:
        reveals = [call.reveals for call in calls if call.reveals]
        np.testing.assert_array_equal(np.repeat(reveals, run.count), arrays["select_count"])


@pytest.mark.parametrize("golden_run", golden_runs("logp_x0_final"))
def test_every_probability_of_a_trace_is_the_originals(golden_run: GoldenRun) -> None:
    """From the recorded state before each step; and guidance, truncation and posterior each from what is recorded."""
    arrays, case, networks = golden_run.arrays, case_of(golden_run), networks_of(golden_run)
    trace = {name: classes_last(values) for name, values in arrays.items() if name.startswith("logp_")}
    sampler, run = walk_of(golden_run)
    before = np.concatenate([np.full_like(arrays["tokens_after"][:1], sampler.classes), arrays["tokens_after"][:-1]])
    transitions = mask_replace.MaskTransitions.of(*sampler._shares(), sampler.classes, sampler.older_posterior)
    for index, call in enumerate(chosen_calls(run.values, sampler.steps, sampler.steps)):
        given, state = {name: values[index][..., :-1] for name, values in trace.items()}, before[index].astype(np.int64)
        said = replace(networks, conditions=networks.conditions[-1:], scale=1.0)(state, call.timestep)["logits"]
        if "logp_cond" in given:
            assert_close(said, given["logp_cond"], "posterior")
            said = given["logp_cond"]
        if "logp_uncond" in given:
            said = guided_log_probabilities(given["logp_uncond"], said, case["guidance"])
        final = truncated(said, case["truncation"]) if case["truncation"] is not None else said
        if "logp_cond" in given:
            assert_close(final, given["logp_x0_final"], "posterior")
        found = transitions.posterior(given["logp_x0_final"], state, call.posterior_timestep)
        assert_close(found, classes_last(arrays["posterior"][index]), "posterior")


@pytest.mark.parametrize("golden_run", golden_runs("logp_uncond"))
def test_truncation_before_guidance_would_show(golden_run: GoldenRun) -> None:
    arrays, case = golden_run.arrays, case_of(golden_run)
    one, empty, expected = (
        classes_last(arrays[name])[..., :-1] for name in ("logp_cond", "logp_uncond", "logp_x0_final")
    )
    rate, scale = case["truncation"], case["guidance"]
    wrong = guided_log_probabilities(truncated(empty, rate), truncated(one, rate), scale)
    with pytest.raises(AssertionError):
        assert_close(wrong, expected, "posterior")


def unfollowed(calls: list[TokenCall]) -> list[TokenCall]:
    """The posterior at the network's timestep."""
    return [replace(call, posterior_timestep=call.timestep) for call in calls]


def clipped(calls: list[TokenCall]) -> list[TokenCall]:
    """The posterior at most down to the first timestep, max(t - skip, 0)."""
    skip = calls[0].timestep - calls[0].posterior_timestep
    return [replace(call, posterior_timestep=max(call.timestep - skip, 0)) for call in calls]


@pytest.mark.parametrize("wrong", [unfollowed, clipped], ids=lambda wrong: wrong.__name__)
def test_another_posterior_of_a_stride_would_show(wrong: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the tokens of all such runs together: in a single one they may agree."""
    differing = 0
    for golden_run in present(lambda golden_run: case_of(golden_run).get("skip_step") is not None):
        sampler, run = walk_of(golden_run)
        calls = wrong(chosen_calls(run.values, sampler.steps, sampler.steps))
        monkeypatch.setattr(mask_replace, "chosen_calls", lambda *_, calls=calls: calls)
        differing += wrong_tokens(sampler, run, golden_run.arrays["tokens_after"])
        monkeypatch.undo()
    assert differing


@pytest.mark.parametrize(
    ("family", "other"),
    [("diffsound", {"masked": (0.000009, 0.99999), "mask_replaces": False}), ("cdcd", {"steps": 100})],
    ids=["ends of VQ-Diffusion", "timesteps of VQ-Diffusion"],
)
def test_another_schedule_would_show(family: str, other: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """In one of the runs, the shortest first, each step from the right state."""
    runs = sorted(present(lambda found: found.family == family), key=lambda found: found.arrays["noise_u16"].size)
    started = [(*walk_of(golden_run), golden_run.arrays["tokens_after"]) for golden_run in runs]
    shares = [replace(sampler, **other)._shares() for sampler, _, _ in started]
    for (sampler, run, expected), made in zip(started, shares, strict=True):
        monkeypatch.setattr(MaskReplace, "_shares", lambda self, made=made: made)
        if wrong_tokens(sampler, run, expected):
            return
    raise AssertionError("every token would be the same")


def present(wanted: Callable[[GoldenRun], bool]) -> list[GoldenRun]:
    """The runs that are here and wanted, at least one."""
    listed = [golden_run for parameter in golden_runs() if (golden_run := parameter.values[0]) is not None]
    return [golden_run for golden_run in listed if wanted(golden_run)] or pytest.skip("no such golden is here")


def wrong_tokens(sampler: MaskReplace, run: TokenRun, expected: np.ndarray) -> int:
    return int((forced(sampler, run, expected) != expected).sum())


@RUNS
def test_a_step_from_the_originals_state_is_the_originals_step(golden_run: GoldenRun) -> None:
    """States are sent in; nothing of the walk's own state is left behind. The first steps are enough."""
    sampler, run = walk_of(golden_run)
    expected = golden_run.arrays["tokens_after"][:6]
    np.testing.assert_array_equal(forced(sampler, run, expected), expected)
