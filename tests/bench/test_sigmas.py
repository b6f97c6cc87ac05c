"""The levels that a peer is given are those of diffusers' sampler."""

import numpy as np
import pytest
from diffusers import EulerDiscreteScheduler
from peers.sdcpp import euler_sigmas

from tests.numerics import assert_close


@pytest.mark.parametrize("steps", [4, 20, 37])
def test_levels_are_those_of_diffusers(steps: int) -> None:
    theirs = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    theirs.set_timesteps(steps)
    assert_close(np.array(euler_sigmas(steps)), theirs.sigmas.numpy(), "sampler-step")
