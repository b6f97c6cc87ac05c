"""LMS as ELITE's authors ran it: fractional timesteps, noise levels, coefficients and a walk."""

import numpy as np
import pytest
from x2i.runtime.samplers.multistep import ORDER, lagrange_integrals
from x2i.runtime.samplers.registry import make_sampler
from x2i.runtime.samplers.schedule import Schedule
from x2i.runtime.samplers.settings import SamplerSettings
from x2i.runtime.samplers.spacing import interpolated_levels

from tests.goldens import golden_arrays
from tests.numerics import assert_close

SCHEDULE = Schedule()


def expected():
    return golden_arrays("elite/golden/scheduler.npz")


@pytest.mark.parametrize("steps", [7, 10, 50, 100])
def test_timesteps_and_noise_levels(steps):
    levels = interpolated_levels(SCHEDULE, steps, SamplerSettings(timestep_spacing="linspace"))
    assert_close(np.asarray(levels.timesteps), expected()[f"timesteps_{steps}"], "elite-stage")
    assert_close(np.asarray(levels.sigmas), expected()[f"sigmas_{steps}"], "elite-stage")
    assert_close(np.float32(make_sampler("lms", SCHEDULE, steps).noise_scale), expected()["init_noise_sigma"], "pixels")


@pytest.mark.parametrize("steps", [7, 10, 50, 100])
def test_coefficients(steps):
    """The authors' table has the newest derivative first."""
    sigmas = expected()[f"sigmas_{steps}"].astype(np.float64)
    table = np.zeros((steps, ORDER))
    for index in range(steps):
        nodes = sigmas[max(0, index + 1 - ORDER) : index + 1]
        weights = lagrange_integrals(nodes, sigmas[index + 1])
        table[index, : len(weights)] = weights[::-1]
    assert_close(table, expected()[f"lms_coeff_{steps}"], "elite-stage")


def test_walk():
    arrays = expected()
    calls = iter(zip(arrays["walk_scaled_input"], arrays["eps"], strict=True))

    def denoise(latents, timestep):
        scaled, noise = next(calls)
        assert_close(latents, scaled, "elite-stage")
        return noise

    sampler = make_sampler("lms", SCHEDULE, 7)
    walk = sampler.run(arrays["x"] * np.float32(sampler.noise_scale), denoise, lambda: arrays["x"])
    for latents, after in zip(walk, arrays["walk_prev_sample"], strict=True):
        assert_close(latents, after, "elite-stage")
