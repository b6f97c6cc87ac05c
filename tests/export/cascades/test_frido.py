"""Frido from its checkpoints, exported and run without torch, against every recorded run."""

from functools import cache

import numpy as np
import pytest
import torch
from x2i.runtime.load import load
from x2i.runtime.samplers.registry import make_sampler
from x2i.runtime.samplers.sampler import Sampler
from x2i.runtime.samplers.schedule import Schedule
from x2i.runtime.samplers.settings import SamplerSettings

from tests.export.cascades.frido_cases import case_names, frido_bundle, frido_case, frido_of_task, task_names
from tests.goldens import golden_arrays
from tests.numerics import assert_close, assert_near

CASES = pytest.mark.parametrize("name", case_names() or ["none"])
TASKS = pytest.mark.parametrize("task", task_names() or ["none"])
SCHEDULE = Schedule(beta_start=0.0015, beta_end=0.0155)


@cache
def pipeline(task):
    return load(frido_bundle(task), "cpu")


def walked(case, number, **changes):
    """Each level's states behind its steps, the slots, and the output."""
    options = case.options(number) | changes
    walk = pipeline(case.task).steps(options.pop("prompt", None), **options)
    steps = list(walk)
    count = steps[0].count
    assert len(steps) == 2 * count
    return steps[:count], steps[count:], walk.slots, walk.finish(steps[-1])


@CASES
def test_a_run_is_the_recorded_one(name):
    case = frido_case(name)
    arrays, image = case.arrays, case.arrays["image_u8"]
    for number in range(case.settings["batch"]):
        coarse, fine, slots, output = walked(case, number)
        for level, steps in enumerate((coarse, fine)):
            assert [step.timestep for step in steps] == arrays[f"stage{level}_timesteps"].tolist()
            assert len(steps) == case.settings["actual_steps"]
            states = case.level(level, arrays[f"stage{level}_x_after_step"])[:, number]
            # The last entry of the coarse level may show its mean.
            kept = len(steps) if level else len(steps) - 1
            for step, expected in zip(steps[:kept], states[:kept], strict=True):
                assert_near(step.state[0], expected, "frido-run")
        assert_near(slots["pooled"][-1], arrays["stage0_after_pool"][number], "frido-run")
        assert_near(slots["context"][-1], arrays["context"][number], "frido-net")
        if case.sides == 2:
            assert_close(slots["context"][0], arrays["context_uncond"][0], "context")
        latents = np.concatenate([slots["pooled"][-1:], fine[-1].state], axis=1)
        assert_near(latents[0], arrays["final_latents"][number], "frido-run")
        same = cells_of_same_codes(case, number, latents)
        assert same.mean() >= 0.999 or len(same.ravel()) * (1 - same.mean()) <= 1
        drawn = np.asarray(output.images[0])
        assert drawn.shape == image[number].shape
        if same.all():
            assert_close(drawn, image[number], "frido-picture")


def cells_of_same_codes(case, number, latents):
    """Where each level's code is the recorded one, bool [levels, h, w]; `latents` are all channels, [1, C, h, w]."""
    parts = [torch.from_numpy(part) for part in np.split(latents, [case.coarse], axis=1)]
    codes = np.stack([codes[0].numpy() for codes in frido_of_task(case.task).decoder.codes(parts)])
    return codes == case.arrays["codes"][:, number]


@CASES
@pytest.mark.parametrize("level", [0, 1])
def test_the_sampler_with_the_recorded_predictions(name, level):
    case = frido_case(name)
    arrays, settings = case.arrays, case.settings
    if f"stage{level}_net_out_cond" not in arrays:
        pytest.skip("no predictions were recorded")
    recorded = zip(arrays[f"stage{level}_call_timesteps"], arrays[f"stage{level}_net_out_cond"], strict=True)
    unguided = iter(arrays.get(f"stage{level}_net_out_uncond", ()))
    called = []

    def denoise(x, timestep):
        time, noise = next(calls)
        assert time == timestep
        called.append(x)
        return noise if case.sides == 1 else (other := next(unguided)) + settings["guidance"] * (noise - other)

    calls = iter(recorded)
    sampler = sampler_of(settings)
    draws = iter(case.level(level, arrays.get(f"stage{level}_noise", np.empty((0, 1, 99, 1, 1)))))
    start = case.noise[("coarse_noise", "noise")[level]][0]
    expected = case.level(level, arrays[f"stage{level}_x_after_step"])
    clean = case.level(level, arrays[f"stage{level}_pred_x0"])
    assert clean.shape == expected.shape
    states = list(sampler.run(start, denoise, lambda: next(draws)))
    for state, wanted in zip(states[: len(states) - (level == 0)], expected, strict=False):
        assert_near(state, wanted, "frido-sampler")
    assert next(calls, None) is None and next(draws, None) is None


def sampler_of(settings) -> Sampler:
    ddim = settings["sampler"] == "ddim"
    name, own = ("ddim_compvis", SamplerSettings(eta=settings["eta"])) if ddim else ("plms", None)
    return make_sampler(name, SCHEDULE, settings["steps"], own)


@TASKS
def test_the_decoder_s_graph_is_the_recorded_picture(task):
    nets = golden_arrays(f"frido/{task}/nets.npz")
    coarse = frido_of_task(task).unet.settings.levels[0]
    finished, latents = nets["z"][:, :coarse], nets["z"][:, coarse:]
    image = pipeline(task).session("decoder")(latents=latents, finished=finished)["image"]
    assert_near(image, nets["decoded"].clip(-1, 1), "frido-net")


@TASKS
@pytest.mark.parametrize("level", [0, 1])
def test_every_graph_of_a_level_is_the_recorded_network(task, level):
    nets, coarse = golden_arrays(f"frido/{task}/nets.npz"), frido_of_task(task).unet.settings.levels[0]
    draw = pipeline(task)
    names = [name for name in nets if name.startswith(f"stage{level}_t")]
    assert {name.endswith("nonsquare") for name in names} == {True, False}
    for name in names:
        time = float(name.split("_")[1][1:])
        x = nets["x_nonsquare" if name.endswith("nonsquare") else "x"]
        given = draw.session("projection")(context=nets["context"][: len(x)])
        if level:
            given |= draw.session("guides")(finished=x[:, :coarse])
        times = np.full(len(x), time, np.float32)
        latents = x[:, coarse:] if level else x[:, :coarse]
        noise = draw.session(("coarse_denoiser", "denoiser")[level])(latents=latents, timestep=times, **given)["noise"]
        assert_near(noise, nets[name], "frido-net")
