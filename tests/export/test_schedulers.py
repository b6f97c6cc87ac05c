"""Every scheduler of diffusers with its settings crossed: the same timesteps and the same latents after every step."""

import inspect
import itertools
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from x2i.export.errors import PlanError
from x2i.export.sampling.schedulers import CLASSES, read_sampling, scheduler_config
from x2i.models.stable_diffusion.scheduler import read_scheduler
from x2i.runtime.errors import InputError
from x2i.runtime.processes.latents import SamplerChoice
from x2i.runtime.samplers.registry import SAMPLERS
from x2i.runtime.samplers.schedule import Schedule, alphas_cumprod
from x2i.runtime.samplers.settings import SamplerSettings

from tests.numerics import assert_close
from tests.runtime.samplers.peer import STABLE_DIFFUSION_V1, peer_walk, same_step_noise, scheduler_class
from tests.runtime.samplers.toy import Recorder, context, normal, plain, walk

pytestmark = pytest.mark.filterwarnings("ignore")
COUNTS = (1, 2, 3, 4, 5, 7, 11, 16, 25, 50)
BETAS = {key: STABLE_DIFFUSION_V1[key] for key in ("beta_start", "beta_end", "beta_schedule")}
VALUES: dict[str, tuple[Any, ...]] = {
    "beta_schedule": ("scaled_linear", "linear", "squaredcos_cap_v2"),
    "prediction_type": ("epsilon", "v_prediction", "sample"),
    "timestep_spacing": ("leading", "trailing", "linspace"),
    "rescale_betas_zero_snr": (False, True),
    "set_alpha_to_one": (False, True),
    "use_karras_sigmas": (False, True),
    "use_exponential_sigmas": (False, True),
    "use_beta_sigmas": (False, True),
    "use_lu_lambdas": (False, True),
    "final_sigmas_type": ("zero", "sigma_min"),
    "interpolation_type": ("linear", "log_linear"),
    "timestep_type": ("discrete", "continuous"),
    "thresholding": (False, True),
    "skip_prk_steps": (True, False),
    "variance_type": ("fixed_small", "fixed_small_log", "fixed_large"),
    "algorithm_type": ("dpmsolver++", "sde-dpmsolver++", "dpmsolver", "sde-dpmsolver"),
    "solver_order": (1, 2, 3),
    "solver_type": ("midpoint", "heun", "bh1", "bh2"),
    "lower_order_final": (True, False),
    "euler_at_final": (False, True),
    "lambda_min_clipped": (-math.inf, -5.1),
    "predict_x0": (True, False),
    "disable_corrector": ([], [0, 2]),
    "original_inference_steps": (50, 100),
    "timestep_scaling": (10.0, 7.0),
    "sigma_schedule": ("karras", "exponential"),
    "sigma_data": (0.5, 1.0),
    "sigma_min": (None, 0.05),
    "sigma_max": (None, 9.0),
    "num_train_timesteps": (1000, 777),
}
NUMBERS_OF_EDM = {"sigma_min": (0.002, 0.01), "sigma_max": (80.0, 20.0)}


IN_SIGMAS = ("LMSDiscrete", "Euler", "Heun", "KDPM2", "DPMSolverSDE")
"""Classes that count noise per unit of signal: twenty thousand at a cosine schedule's end, too much for float32."""


def values_of(name: str) -> dict[str, tuple[Any, ...]]:
    chosen = {key: VALUES[key] for key in CLASSES[name] if key in VALUES}
    if name == "DDPMScheduler":
        chosen["beta_schedule"] = (*VALUES["beta_schedule"], "laplace", "sigmoid")
    elif name.startswith("EDM"):
        chosen |= NUMBERS_OF_EDM
    else:
        chosen.pop("variance_type", None)
    if name.startswith(IN_SIGMAS):
        chosen["beta_schedule"] = ("scaled_linear", "linear")
    return chosen


def tolerance_of(name: str, settings: dict[str, Any]) -> str:
    """Levels that follow from differences of square roots, as those without signal, end in the last bits of torch's."""
    rooted = settings.get("rescale_betas_zero_snr") or settings.get("beta_schedule") == "squaredcos_cap_v2"
    third = name.startswith("DEIS") and settings.get("solver_order") == 3
    rooted = rooted or third or name in ("KDPM2AncestralDiscreteScheduler", "DPMSolverSDEScheduler")
    return "scheduler-step-rooted" if rooted else "scheduler-step"


def single(name: str) -> Iterator[dict[str, Any]]:
    """Each setting at each of its values, the others as Stable Diffusion has them."""
    yield {}
    for key, values in values_of(name).items():
        yield from ({key: value} for value in values)


def crossed(name: str, count: int) -> Iterator[dict[str, Any]]:
    """Settings at random, the same in every run."""
    dice = random.Random(name)
    for _ in range(count):
        drawn = {key: dice.choice(values) for key, values in values_of(name).items()}
        rules = [key for key in drawn if key.startswith("use_") and drawn[key]]
        drawn |= {key: False for key in rules[1:]}
        if rules and "num_train_timesteps" in drawn:
            # At other counts the first timestep is cut off or not by the last bit of torch's square root.
            drawn["num_train_timesteps"] = 1000
        if (
            name.startswith("DEIS")
            or not drawn.get("predict_x0", True)
            or "++" not in drawn.get("algorithm_type", "++")
        ):
            # Noise predictions at a cosine schedule's end lose what little signal there is.
            drawn["beta_schedule"] = "scaled_linear"
        yield drawn


CASES = [
    pytest.param(name, settings, counts, id=f"{name}-{index}")
    for name in CLASSES
    for index, (settings, counts) in enumerate(
        itertools.chain(
            ((settings, (1, 2, 7)) for settings in single(name)),
            ((settings, (COUNTS[i % 10], COUNTS[(i * 3 + 1) % 10])) for i, settings in enumerate(crossed(name, 12))),
        )
    )
]


def peer_of(config: dict[str, Any]) -> Any:
    """The scheduler as Stable Diffusion's pipeline holds it."""
    peer = scheduler_class(config["_class_name"]).from_config(config)
    if hasattr(peer.config, "steps_offset"):
        peer.register_to_config(steps_offset=1)
    if getattr(peer.config, "clip_sample", False):
        peer.register_to_config(clip_sample=False)
    return peer


@pytest.mark.parametrize(("name", "settings", "counts"), CASES)
def test_equal_to_diffusers(name: str, settings: dict[str, Any], counts: tuple[int, ...], monkeypatch) -> None:
    config = ({} if name.startswith("EDM") else BETAS) | {"_class_name": name} | settings
    for steps in counts:
        same_step_noise(monkeypatch)
        shown_to_peer, shown = Recorder(plain(context())), Recorder(plain(context()))
        try:
            expected = peer_walk(peer_of(config), steps, normal(0), shown_to_peer)
            failed = not all(np.isfinite(each).all() for each in expected.latents)
        except (ValueError, NotImplementedError, IndexError, UnboundLocalError, AssertionError, RuntimeError):
            failed = True
        try:
            read = read_sampling(config, "scheduler")
            assert read.sampler is not None
            sampler = read.sampler.make(read.schedule, steps=steps)
            latents = list(walk(sampler, normal(0), shown))
        except (PlanError, InputError) as error:
            assert failed, f"{steps} steps refused: {error}"
            continue
        assert not failed or np.isfinite(latents[-1]).all(), "diffusers draws nothing here, and this draws rubbish"
        if failed:
            continue
        tolerance = tolerance_of(name, settings)
        assert_close(np.asarray(shown.timesteps), np.asarray(shown_to_peer.timesteps), "scheduler-timesteps")
        assert sampler.noise_scale == pytest.approx(expected.noise_scale, rel=1e-6)
        for ours, theirs in zip(shown.inputs, shown_to_peer.inputs, strict=True):
            assert_close(ours, theirs, tolerance)
        assert_close(latents[-1], expected.latents[-1], tolerance)


@pytest.mark.parametrize("name", CLASSES)
def test_defaults_are_those_of_the_class(name: str) -> None:
    parameters = inspect.signature(scheduler_class(name).__init__).parameters
    assert CLASSES[name] == {key: each.default for key, each in parameters.items() if key != "self"}


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("zero_snr", [False, True])
def test_diffusers_draws_what_is_written_for_it(name: str, zero_snr: bool, monkeypatch) -> None:
    """The other way: every sampler as it is by itself, in the file that Optimum's and diffusers' pipelines read."""
    if SAMPLERS[name].scheduler is None or (zero_snr and name.startswith("edm")):
        pytest.skip("diffusers has none")
    prediction = "v_prediction" if zero_snr else "epsilon"
    schedule = Schedule(prediction_type=prediction, rescale_betas_zero_snr=zero_snr)
    config = json.loads(json.dumps(scheduler_config(schedule, SamplerChoice(name))))
    same_step_noise(monkeypatch)
    shown_to_peer, shown = Recorder(plain(context())), Recorder(plain(context()))
    expected = peer_walk(scheduler_class(config["_class_name"]).from_config(config), 8, normal(0), shown_to_peer)
    latents = list(walk(SamplerChoice(name).make(schedule, steps=8), normal(0), shown))
    told = not zero_snr or "rescale_betas_zero_snr" in config
    tolerance = "scheduler-timesteps" if told else "scheduler-timesteps-silent"
    assert_close(np.asarray(shown.timesteps), np.asarray(shown_to_peer.timesteps), tolerance)
    if told:
        assert_close(latents[-1], expected.latents[-1], "scheduler-step-rooted" if zero_snr else "scheduler-step")
    read = read_sampling(config, "scheduler")
    assert read.sampler is not None
    # Betas that are written one by one keep a level without signal to five digits.
    if not name.startswith("edm"):
        np.testing.assert_allclose(alphas_cumprod(read.schedule)[:-1], alphas_cumprod(schedule)[:-1], rtol=1e-5)
    if not zero_snr:
        again = list(walk(read.sampler.make(read.schedule, steps=8), normal(0), Recorder(plain(context()))))
        assert_close(again[-1], latents[-1], "scheduler-step")


SCALED = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def test_the_pipeline_has_the_last_word() -> None:
    """It puts steps_offset 1 and clip_sample false; defaults that a saved file marks as unset are the class's again."""
    read = read_sampling({"_class_name": "DDIMScheduler", **SCALED}, "scheduler")
    assert read.schedule.steps_offset == 1 and read.schedule.set_alpha_to_one
    assert read.sampler == SamplerChoice("ddim")
    config = {"_class_name": "EulerDiscreteScheduler", **SCALED, "timestep_spacing": "leading"}
    read = read_sampling(config | {"_use_default_values": ["timestep_spacing"]}, "scheduler")
    assert read.sampler == SamplerChoice("euler")
    assert read_sampling(config, "scheduler").sampler == SamplerChoice(
        "euler", settings=SamplerSettings(timestep_spacing="leading")
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "expected a scheduler of DDIMScheduler"),
        ({"_class_name": "SASolverScheduler"}, "got 'SASolverScheduler'"),
        ({"_class_name": ["DDIMScheduler"]}, "expected a scheduler of DDIMScheduler"),
        ({"use_flow_sigmas": True}, "expected use_flow_sigmas False, got True"),
        ({"variance_type": "learned_range"}, "expected variance_type None, got 'learned_range'"),
        ({"prediction_type": "flow_prediction"}, "prediction_type: expected one of 'epsilon'"),
        ({"beta_schedule": "sigmoid"}, "expected beta_schedule linear or scaled_linear"),
        ({"beta_start": "0.1"}, "beta_start: expected float, got str"),
        ({"beta_start": math.nan}, "beta_start"),
        ({"num_train_timesteps": 10**12}, "train_steps: expected int <= 100000"),
        ({"trained_betas": [0.1, 0.2]}, "trained_betas: expected 1000 numbers"),
        ({"use_karras_sigmas": True, "use_beta_sigmas": True}, "expected one rule of sigmas at most"),
        ({"solver_order": 9}, "solver_order: expected int <= 3"),
        ({"timestep_spacing": "cosine"}, "timestep_spacing: expected one of 'leading'"),
    ],
)
def test_what_is_not_drawn_is_refused_by_name(changed: dict[str, Any], said: str) -> None:
    with pytest.raises((PlanError, InputError)) as refusal:
        read_sampling({"_class_name": "DPMSolverMultistepScheduler", **SCALED, **changed}, "scheduler")
    assert any(said in problem for problem in refusal.value.problems), refusal.value.problems


@pytest.mark.parametrize("name", CLASSES)
def test_a_folder_that_diffusers_saved_is_read(name: str, tmp_path: Path) -> None:
    """Saved files mark what was left out, and one class writes an infinity, which is no JSON."""
    made = scheduler_class(name)(prediction_type="v_prediction")
    made.save_pretrained(tmp_path / "scheduler")
    read = read_sampling(read_scheduler(tmp_path), "scheduler")
    assert read == read_sampling({"_class_name": name, **dict(made.config)}, "scheduler")
    assert read.schedule.prediction_type == "v_prediction"
