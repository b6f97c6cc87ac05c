"""What holds for every sampler: no state, no side effects, and an answer to everything it is given."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from x2i.runtime.samplers.registry import SAMPLERS, make_sampler
from x2i.runtime.samplers.sampler import Sampler
from x2i.runtime.samplers.schedule import Schedule

from tests.runtime.samplers.toy import Recorder, context, draws, normal, plain, toy_model, walk

STEPS = 8
NOISY = {"euler_a": STEPS, "dpmpp_sde": 2 * (STEPS - 1), "dpm2_a": STEPS - 1, "ddpm": STEPS, "lcm": STEPS - 1}
NOISY |= {name: STEPS for name in ("dpmpp_2m_sde", "dpmpp_3m_sde", "dpmpp_2s_sde")}
every_sampler = pytest.mark.parametrize("name", SAMPLERS)


def last_latents(sampler: Sampler, noise_seed: int = 0, context_seed: int = 5, draw_seed: int = 100) -> np.ndarray:
    *_, latents = walk(sampler, normal(noise_seed), plain(context(context_seed)), draw_seed)
    return latents


def frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


@every_sampler
def test_one_entry_per_step_and_float32_throughout(name: str) -> None:
    sampler = make_sampler(name, Schedule(), STEPS)
    recorder = Recorder(plain(context()))
    latents = list(walk(sampler, normal(0), recorder))
    assert len(sampler.timesteps) == len(latents)
    assert all(type(timestep) is float for timestep in [*sampler.timesteps, *recorder.timesteps])
    assert {x.dtype for x in [*latents, *recorder.inputs]} == {np.dtype(np.float32)}
    assert {x.shape for x in [*latents, *recorder.inputs]} == {normal(0).shape}


@every_sampler
def test_changes_no_array_it_is_given(name: str) -> None:
    sampler = make_sampler(name, Schedule(), STEPS)
    start, draw = frozen(normal(0) * np.float32(sampler.noise_scale)), draws()
    given = start.copy()
    run = sampler.run(start, lambda x, t: frozen(toy_model(x, t, context())), lambda: frozen(draw()))
    *_, latents = (frozen(x) for x in run)
    np.testing.assert_array_equal(latents, last_latents(sampler))
    np.testing.assert_array_equal(start, given)


@every_sampler
def test_yielded_latents_stay_what_they_were(name: str) -> None:
    sampler = make_sampler(name, Schedule(), STEPS)
    pairs = [(x, x.copy()) for x in walk(sampler, normal(0), plain(context()))]
    for kept, copy in pairs:
        np.testing.assert_array_equal(kept, copy)


@every_sampler
def test_a_second_run_repeats_the_first(name: str) -> None:
    sampler = make_sampler(name, Schedule(), STEPS)
    np.testing.assert_array_equal(last_latents(sampler), last_latents(sampler))


@every_sampler
def test_interleaved_runs_do_not_meet(name: str) -> None:
    sampler = make_sampler(name, Schedule(), STEPS)
    alone = [list(walk(sampler, normal(seed), plain(context(seed)), seed)) for seed in (0, 1)]
    runs = [walk(sampler, normal(seed), plain(context(seed)), seed) for seed in (0, 1)]
    for expected, together in zip(zip(*alone, strict=True), zip(*runs, strict=True), strict=True):
        np.testing.assert_array_equal(together, expected)


@every_sampler
def test_runs_in_threads_do_not_meet(name: str) -> None:
    sampler = make_sampler(name, Schedule(), STEPS)
    seeds = [0, 1] * 4
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda seed: last_latents(sampler, noise_seed=seed), seeds))
    for seed, latents in zip(seeds, together, strict=True):
        np.testing.assert_array_equal(latents, last_latents(sampler, noise_seed=seed))


@every_sampler
@pytest.mark.parametrize("changed", ["noise_seed", "context_seed"])
def test_answers_to_start_noise_and_context(name: str, changed: str) -> None:
    sampler = make_sampler(name, Schedule(), STEPS)
    assert np.abs(last_latents(sampler, **{changed: 77}) - last_latents(sampler)).max() > 0.1


@every_sampler
def test_answers_to_the_timestep(name: str) -> None:
    sampler = make_sampler(name, Schedule(), STEPS)
    *_, blind = walk(sampler, normal(0), lambda x, t: toy_model(x, 500, context()))
    assert np.abs(blind - last_latents(sampler)).max() > 0.1


@every_sampler
def test_answers_to_draws_where_it_makes_them(name: str) -> None:
    sampler = make_sampler(name, Schedule(), STEPS)
    made = itertools.count()
    draw = draws()

    def counted() -> np.ndarray:
        next(made)
        return draw()

    list(sampler.run(normal(0), plain(context()), counted))
    assert next(made) == NOISY.get(name, 0)
    difference = np.abs(last_latents(sampler, draw_seed=900) - last_latents(sampler)).max()
    assert difference > 0.1 if name in NOISY else difference == 0


@every_sampler
def test_a_caller_can_stop_early(name: str) -> None:
    sampler = make_sampler(name, Schedule(), STEPS)
    recorder = Recorder(plain(context()))
    next(walk(sampler, normal(0), recorder))
    assert len(recorder.timesteps) == (2 if name in ("plms", "heun", "dpm2", "dpm2_a", "dpmpp_sde") else 1)
