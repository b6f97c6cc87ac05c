"""All samplers by name: what each reads of the settings, with its own values, and diffusers' class that it equals."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np

from ..errors import InputError
from .ddim import ddim, ddim_compvis, ddpm, unclip
from .dpm_solver import deis, dpm_multistep, dpm_singlestep, edm_dpmpp_2m
from .euler import dpm2, dpm2_a, dpmpp_sde, edm_euler, euler, euler_a, heun
from .lcm import lcm, tcd
from .multistep import lms, plms, pndm
from .prediction import Prediction, alpha_levels
from .sampler import Clean, Sampler
from .schedule import ALMOST_NO_SIGNAL, Schedule, training_sigmas
from .settings import SamplerSettings
from .unipc import unipc

Make = Callable[[Schedule, int, SamplerSettings], Sampler]


@dataclass(frozen=True, slots=True)
class SamplerKind:
    """One sampler: `make(schedule, steps, settings)`, the settings that it reads with its own values, and the class of
    diffusers' scheduler that it equals, None for CompVis' own."""

    make: Make
    scheduler: str | None
    settings: Mapping[str, Any] = field(default_factory=dict)


CLIP = {"clip_sample": False, "clip_sample_range": 1.0}
THRESHOLD = {"thresholding": False, "dynamic_thresholding_ratio": 0.995, "sample_max_value": 1.0}
LEADING, LINSPACE = {"timestep_spacing": "leading"}, {"timestep_spacing": "linspace"}
SIGMAS = {"sigmas": None}
FLOW = {**LINSPACE, **SIGMAS}
DPM = {
    **SIGMAS,
    **THRESHOLD,
    "solver_order": 2,
    "algorithm_type": "dpmsolver++",
    "solver_type": "midpoint",
    "final_sigmas_type": "zero",
    "lambda_min_clipped": None,
}
MULTISTEP = {**DPM, **LINSPACE, "lower_order_final": True, "euler_at_final": False}
# Its timesteps are always spaced by linspace.
SINGLESTEP = {**DPM, **LINSPACE, "lower_order_final": True}
DISTILLED = {"original_inference_steps": 50}
EDM = {"sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5, "sigma_schedule": "karras", "rho": 7.0}
EDM |= {"final_sigmas_type": "zero"}
EDM_SOLVER = {key: MULTISTEP[key] for key in (*THRESHOLD, "solver_order", "algorithm_type", "solver_type")}
EDM_SOLVER |= {"lower_order_final": True, "euler_at_final": False}
SDE = {"algorithm_type": "sde-dpmsolver++"}
DPM_MULTISTEP, DPM_SINGLESTEP = "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"

SAMPLERS: dict[str, SamplerKind] = {
    "plms": SamplerKind(plms, None),
    "ddim_compvis": SamplerKind(ddim_compvis, None, {"eta": 0.0}),
    "ddim": SamplerKind(ddim, "DDIMScheduler", {**LEADING, **CLIP, **THRESHOLD, "eta": 0.0}),
    "pndm": SamplerKind(pndm, "PNDMScheduler", {**LEADING, "skip_prk_steps": True}),
    "lms": SamplerKind(lms, "LMSDiscreteScheduler", FLOW),
    "euler": SamplerKind(
        euler,
        "EulerDiscreteScheduler",
        {
            **FLOW,
            "sigma_min": None,
            "sigma_max": None,
            "final_sigmas_type": "zero",
            "interpolation_type": "linear",
            "timestep_type": "discrete",
        },
    ),
    "euler_a": SamplerKind(euler_a, "EulerAncestralDiscreteScheduler", LINSPACE),
    "heun": SamplerKind(heun, "HeunDiscreteScheduler", {**FLOW, **CLIP}),
    "dpm2": SamplerKind(dpm2, "KDPM2DiscreteScheduler", FLOW),
    "dpm2_a": SamplerKind(dpm2_a, "KDPM2AncestralDiscreteScheduler", FLOW),
    "dpmpp_sde": SamplerKind(dpmpp_sde, "DPMSolverSDEScheduler", FLOW),
    "dpmpp_2m": SamplerKind(dpm_multistep, DPM_MULTISTEP, MULTISTEP),
    "dpmpp_2m_karras": SamplerKind(dpm_multistep, DPM_MULTISTEP, {**MULTISTEP, "sigmas": "karras"}),
    "dpmpp_2m_sde": SamplerKind(dpm_multistep, DPM_MULTISTEP, {**MULTISTEP, **SDE}),
    "dpmpp_3m": SamplerKind(dpm_multistep, DPM_MULTISTEP, {**MULTISTEP, "solver_order": 3}),
    "dpmpp_3m_sde": SamplerKind(dpm_multistep, DPM_MULTISTEP, {**MULTISTEP, **SDE, "solver_order": 3}),
    "dpmpp_2s": SamplerKind(dpm_singlestep, DPM_SINGLESTEP, SINGLESTEP),
    "dpmpp_2s_sde": SamplerKind(dpm_singlestep, DPM_SINGLESTEP, {**SINGLESTEP, **SDE}),
    "dpmpp_3s": SamplerKind(dpm_singlestep, DPM_SINGLESTEP, {**SINGLESTEP, "solver_order": 3}),
    "unipc": SamplerKind(
        unipc,
        "UniPCMultistepScheduler",
        {
            **FLOW,
            **THRESHOLD,
            "sigma_min": None,
            "sigma_max": None,
            "solver_order": 2,
            "solver_type": "bh2",
            "predict_x0": True,
            "lower_order_final": True,
            "disable_corrector": (),
            "final_sigmas_type": "zero",
        },
    ),
    "deis": SamplerKind(
        deis,
        "DEISMultistepScheduler",
        {**FLOW, **THRESHOLD, "solver_order": 2, "lower_order_final": True, "final_sigmas_type": "sigma_min"},
    ),
    "ddpm": SamplerKind(ddpm, "DDPMScheduler", {**LEADING, **CLIP, **THRESHOLD, "variance_type": "fixed_small"}),
    "lcm": SamplerKind(lcm, "LCMScheduler", {**DISTILLED, **CLIP, **THRESHOLD, "timestep_scaling": 10.0}),
    "tcd": SamplerKind(tcd, "TCDScheduler", {**DISTILLED, "eta": 0.0}),
    "edm_euler": SamplerKind(edm_euler, "EDMEulerScheduler", EDM),
    "edm_dpmpp_2m": SamplerKind(edm_dpmpp_2m, "EDMDPMSolverMultistepScheduler", {**EDM, **EDM_SOLVER}),
}

OWN_SAMPLERS: dict[str, SamplerKind] = {
    "unclip": SamplerKind(
        unclip, "UnCLIPScheduler", {"clip_sample": True, "clip_sample_range": 1.0, "variance_type": "fixed_small_log"}
    ),
}
"""Those of one system, whose networks give what no other sampler reads, or whose schedule no other has."""


def sampler_kind(name: str) -> SamplerKind:
    """The sampler of a name, whoever's it is."""
    return SAMPLERS[name] if name in SAMPLERS else OWN_SAMPLERS[name]


def make_sampler(name: str, schedule: Schedule, steps: int, settings: SamplerSettings | None = None) -> Sampler:
    """The sampler `name`, set up for `steps` steps; its own settings hold where `settings` say nothing.

    Raises InputError for an unknown name, for a count that is no whole number from 1 to the schedule's training
    steps, for settings that the sampler does not read, and for what it cannot do.
    """
    problems = schedule.problems()
    if not isinstance(name, str) or name not in SAMPLERS.keys() | OWN_SAMPLERS.keys():
        names = ", ".join(SAMPLERS)
        problems.append(f"sampler: expected one of {names}, got {name!r:.60}; use one of these names")
    else:
        problems += _unread(name, settings)
    if isinstance(steps, bool) or not isinstance(steps, Integral) or not 1 <= steps <= schedule.train_steps:
        allowed = f"a whole number from 1 to {schedule.train_steps}"
        problems.append(f"steps: expected {allowed}, got {steps!r:.60}; choose a count in that range")
    if problems:
        raise InputError(*problems)
    kind = sampler_kind(name)
    sampler = kind.make(schedule, int(steps), (settings or SamplerSettings()).over(kind.settings))
    clean = _clean_of(schedule) if sampler.clean is None else sampler.clean
    return dataclasses.replace(sampler, clean=clean, asked=int(steps), trained=partial(training_sigmas, schedule))


def _unread(name: str, settings: SamplerSettings | None) -> list[str]:
    kind = sampler_kind(name)
    given = {} if settings is None else settings.given()
    found = [
        f"{setting}: the sampler {name} reads none, got {value!r}; leave it out, or use another sampler"
        for setting, value in given.items()
        if setting not in kind.settings
    ]
    if given.get("sigmas") == "lu" and kind.make is not dpm_multistep:
        found.append(f"sigmas: expected karras, exponential or beta for the sampler {name}, got 'lu'; use dpmpp_2m")
    if given.get("timestep_spacing", "linspace") != "linspace" and kind.make is dpm_singlestep:
        found.append(f"timestep_spacing: the sampler {name} has linspace alone, got {given['timestep_spacing']!r}")
    return found


def _clean_of(schedule: Schedule) -> Clean:
    """Reads an output at a timestep of the schedule, with fractions between its levels."""
    model, alphas = Prediction(schedule.prediction_type), schedule.alphas_cumprod()

    def clean(shown: np.ndarray, output: np.ndarray, timestep: float) -> np.ndarray:
        alpha = float(np.float32(np.interp(timestep, np.arange(len(alphas)), alphas)))
        return model.clean(shown, output, *alpha_levels(max(alpha, ALMOST_NO_SIGNAL)))

    return clean
