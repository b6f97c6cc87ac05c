"""Names and step counts at the boundary."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from x2i.runtime.errors import InputError
from x2i.runtime.samplers.registry import SAMPLERS, make_sampler
from x2i.runtime.samplers.schedule import Schedule

STRIDE_ENDS_PAST_THE_SCHEDULE = [3, 9, 27, 36, 37, 101, 111, 251, 333, 501, 1000]


def problems(name: str, steps: Any, schedule: Schedule | None = None) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        make_sampler(name, schedule or Schedule(), steps)
    return caught.value.problems


def test_the_names() -> None:
    """Bundles and scripts hold them: a name may come, and none may go."""
    expected = "plms ddim_compvis ddim pndm lms euler euler_a heun dpm2 dpm2_a dpmpp_sde dpmpp_2m dpmpp_2m_karras"
    expected += " dpmpp_2m_sde dpmpp_3m dpmpp_3m_sde dpmpp_2s dpmpp_2s_sde dpmpp_3s unipc deis ddpm lcm tcd"
    expected += " edm_euler edm_dpmpp_2m"
    assert list(SAMPLERS) == expected.split()


def test_an_unknown_name_lists_the_known_ones() -> None:
    (problem,) = problems("dpm++", 20)
    assert "'dpm++'" in problem and all(name in problem for name in SAMPLERS)


@pytest.mark.parametrize("steps", [0, -1, 1001, 10.0, 2.5, "10", None, True, float("nan")])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_count_out_of_range_or_of_another_kind(name: str, steps: Any) -> None:
    (problem,) = problems(name, steps)
    assert "from 1 to 1000" in problem and f"got {steps!r}" in problem


def test_both_problems_come_at_once() -> None:
    assert len(problems("dpm++", 0)) == 2


def test_whole_numbers_of_numpy_are_welcome() -> None:
    count: Any = np.int64(10)
    assert make_sampler("ddim", Schedule(), count).timesteps == make_sampler("ddim", Schedule(), 10).timesteps


@pytest.mark.parametrize("name", ["plms", "ddim_compvis"])
def test_compvis_counts_beyond_the_schedule_name_those_that_work(name: str) -> None:
    for steps in STRIDE_ENDS_PAST_THE_SCHEDULE:
        (problem,) = problems(name, steps)
        assert f"got {steps}, which starts at 1000" in problem
        for count in problem.rpartition(": ")[2].split(" and "):
            make_sampler(name, Schedule(), int(count))
    assert problems(name, 3)[0].endswith("; the nearest that work: 2 and 4")
    assert problems(name, 999)[0].endswith("; the nearest that work: 500")


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_does_every_count_it_does_not_refuse(name: str) -> None:
    start = np.ones((1, 1, 1, 1), dtype=np.float32)
    for steps in [*range(1, 60), 249, 250, 334, 500, 999]:
        try:
            sampler = make_sampler(name, Schedule(), steps)
        except InputError:
            continue
        latents = list(sampler.run(start, lambda x, timestep: x * np.float32(0.5), lambda: start))
        assert len(latents) == len(sampler.timesteps) >= steps
        assert np.isfinite(latents).all()
        told = (-2, 2) if name.startswith("edm") else (0, 1000)
        assert all(told[0] <= timestep < told[1] for timestep in sampler.timesteps)


def test_lcm_is_limited_by_its_distillation() -> None:
    assert "1 to 50" in problems("lcm", 51)[0]
    assert "train_steps" in problems("lcm", 4, Schedule(train_steps=49))[0]


def test_importing_the_samplers_loads_neither_torch_nor_scipy() -> None:
    heavy = "{'torch', 'scipy', 'diffusers'}"
    code = f"import sys, x2i.runtime.samplers.registry; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
