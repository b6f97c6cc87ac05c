"""PLMS and DDIM against runs of GlueGen's own code: every latent, every clean prediction, every model call in order."""

import json

import numpy as np
import pytest
from x2i.runtime.samplers.registry import make_sampler
from x2i.runtime.samplers.sampler import Denoise
from x2i.runtime.samplers.schedule import Schedule

from tests.goldens import golden, golden_tensors
from tests.numerics import assert_close
from tests.runtime.samplers.toy import Recorder, context, normal, plain, toy_model, walk

RUNS = ["plms_10", "plms_20", "plms_30", "plms_50", "plms_noguide_10"]
RUNS += ["ddim_10", "ddim_30", "ddim_50", "ddim_noguide_10"]
SCALE = 7.5


def guided(common: dict[str, np.ndarray]) -> Denoise:
    def denoise(x: np.ndarray, timestep: float) -> np.ndarray:
        both = np.concatenate([common["uncond"], common["cond"]])
        empty, full = np.split(toy_model(np.concatenate([x, x]), timestep, both), 2)
        return empty + SCALE * (full - empty)

    return denoise


def clean_latents(x: np.ndarray, alphas: np.ndarray, alphas_prev: np.ndarray) -> np.ndarray:
    """The clean prediction of each step from the latents around it, which share its clean part and its noise."""
    a, b = (np.asarray(v, dtype=np.float64).reshape(-1, 1, 1, 1, 1) for v in (alphas, alphas_prev))
    before, after = x[:-1].astype(np.float64), x[1:].astype(np.float64)
    noise_before, noise_after = np.sqrt(1 - a), np.sqrt(1 - b)
    return (noise_before * after - noise_after * before) / (noise_before * np.sqrt(b) - noise_after * np.sqrt(a))


def test_every_recorded_run_is_checked() -> None:
    files = json.loads(golden("gluegen/samplers/samplers.json").read_text())
    assert {f"samplers/{run}.safetensors" for run in RUNS} == {entry["file"] for entry in files}


def test_the_schedule_is_the_original_one() -> None:
    common = golden_tensors("gluegen/samplers/common.safetensors")
    np.testing.assert_array_equal(Schedule().alphas_cumprod(), common["alphas_cumprod"])


@pytest.mark.parametrize("name", RUNS)
def test_follows_the_original_run(name: str) -> None:
    common = golden_tensors("gluegen/samplers/common.safetensors")
    truth = golden_tensors(f"gluegen/samplers/{name}.safetensors")
    kind, steps = name.split("_")[0], int(name.split("_")[-1])
    sampler = make_sampler("plms" if kind == "plms" else "ddim_compvis", Schedule(), steps)
    recorder = Recorder(plain(common["cond"]) if "noguide" in name else guided(common))
    latents = [common["x_T"], *walk(sampler, common["x_T"], recorder)]

    assert list(sampler.timesteps) == truth["timesteps"][::-1].tolist()
    assert_close(np.stack(latents), truth["x"], "trajectory")
    assert_close(latents[-1], truth["final"], "trajectory")
    assert recorder.timesteps == truth["call_t"].reshape(len(recorder.timesteps), -1)[:, 0].tolist()
    doubled = truth["call_x"].shape[1] == 2 * len(common["x_T"])
    shown = [np.concatenate([x, x]) if doubled else x for x in recorder.inputs]
    assert_close(np.stack(shown), truth["call_x"], "trajectory")
    alphas, alphas_prev = truth["ddim_alphas"][::-1], truth["ddim_alphas_prev"][::-1]
    assert_close(clean_latents(np.stack(latents), alphas, alphas_prev), truth["pred_x0"], "clean-latents")


def test_plms_of_one_step_asks_for_its_only_timestep_twice() -> None:
    sampler = make_sampler("plms", Schedule(), 1)
    start, condition = normal(0), context()
    recorder = Recorder(plain(condition))
    (latents,) = walk(sampler, start, recorder)

    assert sampler.timesteps == (1.0,) and recorder.timesteps == [1.0, 1.0]
    alphas = Schedule().alphas_cumprod().astype(np.float64)

    def ddim(noise: np.ndarray) -> np.ndarray:
        clean = (start - np.sqrt(1 - alphas[1]) * noise) / np.sqrt(alphas[1])
        return np.sqrt(alphas[0]) * clean + np.sqrt(1 - alphas[0]) * noise

    first = toy_model(start, 1, condition)
    second = toy_model(ddim(first).astype(np.float32), 1, condition)
    assert_close(latents, ddim((first + second) / 2), "sampler-step")


@pytest.mark.parametrize(("asked", "done"), [(1, 1), (12, 13), (15, 16), (30, 31), (400, 500), (500, 500)])
def test_a_stride_with_a_rest_makes_more_steps(asked: int, done: int) -> None:
    for name in ("plms", "ddim_compvis"):
        assert len(make_sampler(name, Schedule(), asked).timesteps) == done
