"""Equal per step to diffusers' schedulers with Stable Diffusion v1's scheduler file."""

import numpy as np
import pytest
from x2i.runtime.errors import InputError
from x2i.runtime.samplers.registry import make_sampler
from x2i.runtime.samplers.schedule import Schedule

from tests.numerics import assert_close
from tests.runtime.samplers.peer import SCHEDULERS, peer_walk, same_step_noise, scheduler
from tests.runtime.samplers.toy import Recorder, context, normal, plain, walk

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
COUNTS = [1, 2, 3, 4, 5, 7, 10, 15, 20, 25, 30, 50, 51]
LCM_COUNTS = [1, 2, 3, 4, 7, 8, 25, 50]
CASES = [(name, steps) for name in SCHEDULERS for steps in (LCM_COUNTS if name == "lcm" else COUNTS)]


def check(name: str, steps: int, schedule: Schedule, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = scheduler(
        name,
        num_train_timesteps=schedule.train_steps,
        beta_start=schedule.beta_start,
        beta_end=schedule.beta_end,
        steps_offset=schedule.steps_offset,
        set_alpha_to_one=schedule.set_alpha_to_one,
    )
    same_step_noise(monkeypatch)
    shown_to_peer, shown = Recorder(plain(context())), Recorder(plain(context()))
    expected = peer_walk(peer, steps, normal(0), shown_to_peer)
    sampler = make_sampler(name, schedule, steps)
    latents = list(walk(sampler, normal(0), shown))

    assert list(sampler.timesteps) == expected.timesteps
    assert shown.timesteps == shown_to_peer.timesteps
    assert sampler.noise_scale == pytest.approx(expected.noise_scale, rel=1e-7)
    assert len(latents) == len(expected.latents)
    for ours, theirs in zip(latents, expected.latents, strict=True):
        assert ours.dtype == np.float32
        assert_close(ours, theirs, "sampler-step")
    for ours, theirs in zip(shown.inputs, shown_to_peer.inputs, strict=True):
        assert ours.dtype == np.float32
        assert_close(ours, theirs, "sampler-step")


@pytest.mark.parametrize(("name", "steps"), CASES)
def test_every_step_is_the_same(name: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    check(name, steps, Schedule(), monkeypatch)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_step_is_the_same_on_another_schedule(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = Schedule(train_steps=777, beta_start=0.0005, beta_end=0.02, steps_offset=0, set_alpha_to_one=True)
    check(name, 13, schedule, monkeypatch)


@pytest.mark.parametrize("name", [name for name in SCHEDULERS if name != "lcm"])
@pytest.mark.parametrize("steps", [6, 9, 11, 13, 17, 27, 33, 37, 64, 99, 101, 123, 333, 501, 999])
def test_timesteps_are_the_same_at_other_counts(name: str, steps: int) -> None:
    peer = scheduler(name)
    peer.set_timesteps(steps)
    assert list(make_sampler(name, Schedule(), steps).timesteps) == peer.timesteps.tolist()


@pytest.mark.parametrize("steps", range(1, 51))
def test_lcm_timesteps_are_the_same_at_every_count(steps: int) -> None:
    peer = scheduler("lcm")
    peer.set_timesteps(steps)
    assert list(make_sampler("lcm", Schedule(), steps).timesteps) == peer.timesteps.tolist()


@pytest.mark.parametrize(("name", "steps"), [("ddim", 1000), ("pndm", 1000), ("lcm", 51)])
def test_counts_that_diffusers_cannot_do_are_refused(name: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    same_step_noise(monkeypatch)
    with pytest.raises((IndexError, ValueError)):
        peer_walk(scheduler(name), steps, normal(0), Recorder(plain(context())))
    with pytest.raises(InputError, match=f"steps: expected .* got {steps}"):
        make_sampler(name, Schedule(), steps)
