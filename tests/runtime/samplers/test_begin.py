"""Runs that begin midway and keep a part: equal per step to diffusers' image-to-image and inpainting loops."""

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from x2i.runtime.errors import InputError
from x2i.runtime.samplers.registry import SAMPLERS, make_sampler
from x2i.runtime.samplers.sampler import CLEAN, Begin, Level, Sampler
from x2i.runtime.samplers.schedule import Schedule
from x2i.runtime.samplers.settings import SamplerSettings

from tests.numerics import assert_close
from tests.runtime.samplers.peer import STABLE_DIFFUSION_V1, BrownianPath, same_step_noise, scheduler_class
from tests.runtime.samplers.toy import SHAPE, Recorder, context, draws, normal, plain

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
CONFIGS: dict[str, dict[str, Any]] = {
    "dpmpp_2m_karras": {"use_karras_sigmas": True},
    "dpmpp_2m_sde": {"algorithm_type": "sde-dpmsolver++"},
    "dpmpp_3m": {"solver_order": 3},
    "dpmpp_3m_sde": {"solver_order": 3, "algorithm_type": "sde-dpmsolver++"},
    "dpmpp_2s_sde": {"algorithm_type": "sde-dpmsolver++"},
    "dpmpp_3s": {"solver_order": 3},
}
EDM = ("edm_euler", "edm_dpmpp_2m")
PEERS = [name for name, kind in SAMPLERS.items() if kind.scheduler is not None]
COMPVIS = [name for name in SAMPLERS if name not in PEERS]
RUNS = [(1, 1.0), (2, 0.5), (2, 1.0), (5, 0.8), (7, 0.1), (7, 0.3), (7, 0.6), (7, 1.0), (13, 0.45), (20, 0.95)]
STEPPED = [(steps, strength) for steps, strength in RUNS if int(steps * strength)]


def peer_scheduler(name: str) -> Any:
    config = {key: value for key, value in STABLE_DIFFUSION_V1.items() if not key.startswith("_")}
    if name in EDM:
        config = {}
    return scheduler_class(SAMPLERS[name].scheduler or "").from_config({**config, **CONFIGS.get(name, {})})


def mask_of() -> np.ndarray:
    """1 where a part is drawn anew; float32 [1, 1, h, w]."""
    mask = np.zeros((1, 1, *SHAPE[2:]), np.float32)
    mask[..., 1:4, 2:] = 1
    return mask


def peer_run(name: str, steps: int, strength: float, shown: Recorder, mask: np.ndarray | None) -> list[np.ndarray]:
    """Latents behind every call of the loops in diffusers' image-to-image and inpainting pipelines."""
    peer = peer_scheduler(name)
    peer.set_timesteps(steps)
    if hasattr(peer, "noise_sampler"):
        peer.noise_sampler = BrownianPath(draws())
    first = max(steps - min(int(steps * strength), steps), 0)
    timesteps = peer.timesteps[first * peer.order :]
    if hasattr(peer, "set_begin_index"):
        peer.set_begin_index(first * peer.order)
    start, noise = torch.from_numpy(normal(3)), torch.from_numpy(normal(0))
    x = peer.add_noise(start, noise, timesteps[:1].repeat(len(start)))
    options = {"eta": 0.0} if "eta" in inspect.signature(peer.step).parameters else {}
    found = [x.numpy()]
    for index, timestep in enumerate(timesteps):
        output = torch.from_numpy(shown(peer.scale_model_input(x, timestep).numpy(), float(timestep)))
        x = peer.step(output, timestep, x, **options).prev_sample
        if mask is not None:
            kept = start
            if index < len(timesteps) - 1:
                kept = peer.add_noise(start, noise, torch.tensor([timesteps[index + 1]]))
            x = (1 - torch.from_numpy(mask)) * kept + torch.from_numpy(mask) * x
        found.append(x.numpy())
    return found


def run(sampler: Sampler, first: int, shown: Recorder, mask: np.ndarray | None) -> list[np.ndarray]:
    start, noise = normal(3), normal(0)

    def keep(x: np.ndarray, level: Level) -> np.ndarray:
        return x if mask is None else (1 - mask) * level.of(start, noise) + mask * x

    x = sampler.starts[first].of(start, noise)
    return [x, *sampler.run(x, shown, draws(), Begin(first, keep))]


def matched(ours: list[np.ndarray], theirs: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Latents of the same steps: diffusers counts both calls of a step with two."""
    if len(ours) == len(theirs):
        return list(zip(ours, theirs, strict=True))
    assert len(theirs) == 2 * len(ours) - 2
    return list(zip(ours, [*theirs[::2], theirs[-1]], strict=True))


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize(("steps", "strength"), STEPPED)
@pytest.mark.parametrize("name", PEERS)
def test_every_step_is_diffusers(
    name: str, steps: int, strength: float, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    same_step_noise(monkeypatch)
    mask = mask_of() if masked else None
    theirs, ours = Recorder(plain(context())), Recorder(plain(context()))
    expected = peer_run(name, steps, strength, theirs, mask)
    sampler = make_sampler(name, Schedule(), steps, SamplerSettings())
    latents = run(sampler, sampler.first_step(strength), ours, mask)

    np.testing.assert_allclose(ours.timesteps, theirs.timesteps, atol=0.01)
    for actual, truth in matched(latents, expected):
        assert actual.dtype == np.float32
        assert_close(actual, truth, tolerance(name, steps))
    for actual, truth in zip(ours.inputs, theirs.inputs, strict=True):
        assert_close(actual, truth, tolerance(name, steps))


def tolerance(name: str, steps: int) -> str:
    """Coefficients of float32 in diffusers count where a step is large."""
    if steps == 2 and name in ("heun", "dpm2_a"):
        return "scheduler-step-rooted" if name == "dpm2_a" else "scheduler-step"
    return "scheduler-step" if name in EDM else "sampler-step"


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_run_from_its_first_step_is_the_plain_one(name: str) -> None:
    sampler = make_sampler(name, Schedule(), 7)
    x = normal(0) * np.float32(sampler.noise_scale)
    plainly = list(sampler.run(x, plain(context()), draws()))
    assert sampler.asked == 7
    for ours, theirs in zip(sampler.run(x, plain(context()), draws(), Begin()), plainly, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(("steps", "strength"), STEPPED)
@pytest.mark.parametrize("name", COMPVIS)
def test_compvis_noises_to_the_level_before_its_first_step(name: str, steps: int, strength: float) -> None:
    """CompVis' `scripts/img2img.py`: `t_enc = int(strength * steps)`, noised with entry t_enc of the rising alphas,
    decoded over the first t_enc of the rising timesteps."""
    sampler = make_sampler(name, Schedule(), steps)
    rising = sampler.timesteps[::-1]
    t_enc = int(strength * steps)
    first = sampler.first_step(strength)
    assert sampler.timesteps[first:] == rising[:t_enc][::-1]
    # The script fails where there is no such entry.
    noised = min(t_enc, len(rising) - 1)
    alpha = Schedule().alphas_cumprod().astype(np.float64)[int(rising[noised])]
    assert_close(
        sampler.starts[first].of(normal(3), normal(0)),
        np.sqrt(alpha) * normal(3) + np.sqrt(1 - alpha) * normal(0),
        "sampler-step",
    )


@pytest.mark.parametrize("first", [0, 3, 9])
def test_plms_begun_midway_averages_its_first_two_slopes(first: int) -> None:
    sampler, condition = make_sampler("plms", Schedule(), 10), context()
    recorder = Recorder(plain(condition))
    latents = list(sampler.run(normal(0), recorder, draws(), Begin(first)))
    assert len(latents) == 10 - first
    after = sampler.timesteps[min(first + 1, 9)]
    assert recorder.timesteps == [sampler.timesteps[first], after, *sampler.timesteps[first + 1 :]]


@pytest.mark.parametrize("name", COMPVIS)
def test_what_is_kept_has_the_next_timesteps_noise(name: str) -> None:
    sampler, seen = make_sampler(name, Schedule(), 5), list[Level]()

    def keep(x: np.ndarray, level: Level) -> np.ndarray:
        seen.append(level)
        return x

    list(sampler.run(normal(0), plain(context()), draws(), Begin(2, keep)))
    alphas = Schedule().alphas_cumprod()
    expected = [float(alphas[int(timestep)]) for timestep in sampler.timesteps[3:]]
    assert [level.signal**2 for level in seen[:-1]] == pytest.approx(expected, rel=1e-6)
    assert seen[-1] == CLEAN


@pytest.mark.parametrize("name", SAMPLERS)
def test_what_is_replaced_counts(name: str) -> None:
    sampler = make_sampler(name, Schedule(), 7)
    first = sampler.first_step(0.6)
    x = sampler.starts[first].of(normal(3), normal(0))
    kept = list(sampler.run(x, plain(context()), draws(), Begin(first)))
    replaced = list(sampler.run(x, plain(context()), draws(), Begin(first, lambda latents, level: latents * 0.5)))
    assert all(np.abs(a - b).max() > 1e-3 for a, b in zip(kept, replaced, strict=True))


@pytest.mark.parametrize(("steps", "strength", "said"), [(7, 0.1, "0.14 or more"), (1, 0.99, "1 or more")])
def test_a_strength_that_leaves_no_step_is_refused(steps: int, strength: float, said: str) -> None:
    with pytest.raises(InputError, match=f"start_strength: expected {said}, .* got {strength}"):
        make_sampler("ddim", Schedule(), steps).first_step(strength)


def test_pndm_begins_midway_without_runge_kuttas_steps_alone() -> None:
    """diffusers would take the first steps' timesteps for those of any others."""
    with_prk = make_sampler("pndm", Schedule(), 7, SamplerSettings(skip_prk_steps=False))
    assert with_prk.first_step(1.0) == 0
    with pytest.raises(InputError, match=r"start_strength: expected 1 for a sampler .* got 0\.6"):
        with_prk.first_step(0.6)


@pytest.mark.parametrize("name", SAMPLERS)
def test_calls_from_the_middle_are_counted(name: str) -> None:
    sampler = make_sampler(name, Schedule(), 7)
    for strength in (0.3, 1.0):
        first, recorder = sampler.first_step(strength), Recorder(plain(context()))
        list(sampler.run(normal(0), recorder, draws(), Begin(first)))
        assert len(recorder.timesteps) == sampler.calls - first * sampler.calls_a_step
