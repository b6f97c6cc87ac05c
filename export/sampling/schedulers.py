"""diffusers' scheduler_config.json as a schedule, a sampler and its settings, and back."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from x2i.runtime.bundle.records import decode
from x2i.runtime.errors import InputError
from x2i.runtime.processes.latents import SamplerChoice
from x2i.runtime.samplers.registry import SAMPLERS
from x2i.runtime.samplers.schedule import ALMOST_NO_SIGNAL, Schedule, alphas_cumprod
from x2i.runtime.samplers.settings import SETTING_NAMES, SamplerSettings

from ..errors import PlanError

STEPS = 50
"""diffusers' default count."""
LEVELS = {"num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"}
LEVELS |= {"trained_betas": None, "prediction_type": "epsilon"}
SD_LEVELS = LEVELS | {"beta_start": 0.00085, "beta_end": 0.012}
SPACING = {"steps_offset": 0, "timestep_spacing": "linspace"}
LEADING = SPACING | {"timestep_spacing": "leading"}
ZERO_SNR = {"rescale_betas_zero_snr": False}
RULES = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
FLOWS = {"use_flow_sigmas": False, "flow_shift": 1.0, "use_dynamic_shifting": False, "time_shift_type": "exponential"}
THRESHOLD = {"thresholding": False, "dynamic_thresholding_ratio": 0.995, "sample_max_value": 1.0}
CLIP = {"clip_sample": True, "clip_sample_range": 1.0}
UNCLIPPED = CLIP | {"clip_sample": False}
DPM = LEVELS | THRESHOLD | RULES | FLOWS
DPM |= {"solver_order": 2, "algorithm_type": "dpmsolver++", "solver_type": "midpoint", "final_sigmas_type": "zero"}
DPM |= {"lambda_min_clipped": -math.inf, "variance_type": None}
DISTILLED = SD_LEVELS | {"beta_schedule": "scaled_linear"} | LEADING | ZERO_SNR | UNCLIPPED | THRESHOLD
DISTILLED |= {"original_inference_steps": 50, "set_alpha_to_one": True, "timestep_scaling": 10.0}
EDM = {"num_train_timesteps": 1000, "prediction_type": "epsilon", "sigma_min": 0.002, "sigma_max": 80.0}
EDM |= {"sigma_data": 0.5, "sigma_schedule": "karras", "rho": 7.0, "final_sigmas_type": "zero"}
CLASSES: dict[str, dict[str, Any]] = {
    "DDIMScheduler": LEVELS | LEADING | ZERO_SNR | CLIP | THRESHOLD | {"set_alpha_to_one": True},
    "DDPMScheduler": LEVELS | LEADING | ZERO_SNR | CLIP | THRESHOLD | {"variance_type": "fixed_small"},
    "PNDMScheduler": LEVELS | LEADING | {"skip_prk_steps": False, "set_alpha_to_one": False},
    "LMSDiscreteScheduler": LEVELS | SPACING | RULES,
    "EulerDiscreteScheduler": LEVELS
    | SPACING
    | ZERO_SNR
    | RULES
    | {"interpolation_type": "linear", "sigma_min": None, "sigma_max": None, "timestep_type": "discrete"}
    | {"final_sigmas_type": "zero"},
    "EulerAncestralDiscreteScheduler": LEVELS | SPACING | ZERO_SNR,
    "HeunDiscreteScheduler": SD_LEVELS | SPACING | RULES | UNCLIPPED,
    "KDPM2DiscreteScheduler": SD_LEVELS | SPACING | RULES,
    "KDPM2AncestralDiscreteScheduler": SD_LEVELS | SPACING | RULES,
    "DPMSolverSDEScheduler": SD_LEVELS | SPACING | RULES | {"noise_sampler_seed": None},
    "DPMSolverMultistepScheduler": DPM
    | SPACING
    | ZERO_SNR
    | {"lower_order_final": True, "euler_at_final": False, "use_lu_lambdas": False},
    "DPMSolverSinglestepScheduler": DPM | {"lower_order_final": False},
    "UniPCMultistepScheduler": LEVELS
    | SPACING
    | ZERO_SNR
    | THRESHOLD
    | RULES
    | FLOWS
    | {"solver_order": 2, "predict_x0": True, "solver_type": "bh2", "lower_order_final": True, "disable_corrector": []}
    | {"solver_p": None, "final_sigmas_type": "zero", "sigma_min": None, "sigma_max": None, "shift_terminal": None},
    "DEISMultistepScheduler": LEVELS
    | SPACING
    | THRESHOLD
    | RULES
    | FLOWS
    | {"solver_order": 2, "algorithm_type": "deis", "solver_type": "logrho", "lower_order_final": True},
    "LCMScheduler": DISTILLED,
    "TCDScheduler": DISTILLED,
    "EDMEulerScheduler": EDM,
    "EDMDPMSolverMultistepScheduler": EDM
    | THRESHOLD
    | {"solver_order": 2, "algorithm_type": "dpmsolver++", "solver_type": "midpoint"}
    | {"lower_order_final": True, "euler_at_final": False},
}
"""The settings of diffusers' classes with their defaults, which a folder's file may leave out."""
BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
MORE_BETA_SCHEDULES = {"DDPMScheduler": ("laplace", "sigmoid"), "HeunDiscreteScheduler": ("exp",)}
UNSET = {
    "variance_type": None,
    "use_flow_sigmas": False,
    "use_dynamic_shifting": False,
    "solver_p": None,
    "noise_sampler_seed": None,
}
"""Settings that change the picture and are drawn at this value alone; DDPM's variance has its own rule."""
IGNORED = {"DEISMultistepScheduler": ("solver_type", "algorithm_type")}
"""Settings that a class takes over under any other's name, and then has one value for."""
OTHER_NAMES = {
    "algorithm_type": {"deis": "dpmsolver++"},
    "prediction_type": {"original_sample": "sample"},
}
SOLVER_TYPES = {
    "UniPCMultistepScheduler": {"midpoint": "bh2", "heun": "bh2", "logrho": "bh2"},
    None: {"logrho": "midpoint", "bh1": "midpoint", "bh2": "midpoint"},
}
"""What diffusers puts for another class's solver, by class; None stands for the rest."""
SIGMAS = {
    "use_karras_sigmas": "karras",
    "use_exponential_sigmas": "exponential",
    "use_beta_sigmas": "beta",
    "use_lu_lambdas": "lu",
}
NEAREST = {"plms": "PNDMScheduler", "ddim_compvis": "DDIMScheduler"}
"""What diffusers has instead of CompVis' samplers, which visit other timesteps."""


@dataclass(frozen=True, slots=True)
class FolderSampling:
    """How a checkpoint is sampled: its schedule, and the sampler that equals its scheduler, if it names one."""

    schedule: Schedule
    sampler: SamplerChoice | None


def read_sampling(config: Mapping[str, Any], source: str, as_written: bool = False) -> FolderSampling:
    """A scheduler_config.json as Stable Diffusion's pipeline draws with it; `source` names it in messages.

    The pipeline itself puts `steps_offset` 1 and `clip_sample` false, whatever the file says; `as_written` leaves both,
    as the scheduler has them by itself. Without a class the
    settings are a schedule alone, under the names of diffusers. Raises PlanError with every setting that is of a wrong
    kind or that no sampler here draws.
    """
    config = {key: value for key, value in config.items() if key not in config.get("_use_default_values", ())}
    name = config.get("_class_name")
    if name is None:
        return FolderSampling(_schedule(LEVELS | SPACING | config, source), None)
    defaults = CLASSES.get(name) if isinstance(name, str) else None
    if defaults is None:
        raise PlanError(
            f"{source}: expected a scheduler of {', '.join(CLASSES)}, got {name!r:.60}; put another class and its "
            "settings there, as diffusers' from_config makes them"
        )
    ignored = IGNORED.get(name, ())
    values = {key: config.get(key, default) for key, default in defaults.items() if key not in ignored}
    # diffusers asks whether a switch is set, and null is not.
    values |= {key: False for key, value in values.items() if value is None and isinstance(defaults[key], bool)}
    if not as_written:
        values |= {"steps_offset": 1} if "steps_offset" in values else {}
        values |= {"clip_sample": False} if values.get("clip_sample") is True else {}
    for key, others in (OTHER_NAMES | {"solver_type": SOLVER_TYPES.get(name, SOLVER_TYPES[None])}).items():
        if isinstance(values.get(key), str):
            values[key] = others.get(values[key], values[key])
    problems = _unsupported(name, values, source)
    schedule, settings = _collect(problems, _schedule, values, source), _collect(problems, _settings, values, source)
    if problems or schedule is None or settings is None:
        raise PlanError(*problems)
    return FolderSampling(schedule, _nearest_sampler(name, settings, source))


def _collect(problems: list[str], read: Any, values: dict[str, Any], source: str) -> Any:
    try:
        return read(values, source)
    except (PlanError, InputError) as error:
        problems += error.problems
        return None


def _schedule(values: Mapping[str, Any], source: str) -> Schedule:
    known = {name: values[name] for name in ("beta_start", "beta_end", "beta_schedule") if name in values}
    for name in ("prediction_type", "steps_offset", "set_alpha_to_one", "rescale_betas_zero_snr"):
        known |= {name: values[name]} if name in values else {}
    known["train_steps"] = values["num_train_timesteps"]
    betas = values.get("trained_betas")
    known |= {} if betas is None else {"trained_betas": list(betas) if isinstance(betas, list | tuple) else betas}
    if "beta_start" not in known:
        # The EDM schedulers' noise levels are their own.
        known |= {"beta_start": LEVELS["beta_start"], "beta_end": LEVELS["beta_end"]}
    schedule = decode(Schedule, {"steps_offset": 1, **known}, source)
    if problems := schedule.problems():
        raise PlanError(*(f"{source}: {problem}" for problem in problems))
    return schedule


def _settings(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """What the class reads of a sampler's settings, by their names."""
    found = {key: value for key, value in values.items() if key in SETTING_NAMES and value is not None}
    if found.get("lambda_min_clipped") == -math.inf:
        del found["lambda_min_clipped"]
    rules = [rule for key, rule in SIGMAS.items() if values.get(key)]
    if len(rules) > 1:
        raise PlanError(f"{source}: expected one rule of sigmas at most, got {' and '.join(rules)}; switch one off")
    found |= {"sigmas": rules[0]} if rules else {}
    decode(SamplerSettings, found, source)
    return found


def _unsupported(name: str, values: Mapping[str, Any], source: str) -> list[str]:
    unset = {key: value for key, value in UNSET.items() if key in values}
    if name == "DDPMScheduler":
        del unset["variance_type"]
    problems = [
        f"{source}: expected {key} {value!r}, got {values[key]!r:.60}; {name} is drawn without it"
        for key, value in unset.items()
        if values[key] not in (value, False)
    ]
    allowed = BETA_SCHEDULES + MORE_BETA_SCHEDULES.get(name, ())
    if "beta_schedule" in values and values.get("trained_betas") is None and values["beta_schedule"] not in allowed:
        got = values["beta_schedule"]
        problems.append(f"{source}: expected beta_schedule {' or '.join(allowed)}, got {got!r:.60}; check the file")
    return problems


def _nearest_sampler(scheduler: str, settings: dict[str, Any], source: str) -> SamplerChoice:
    """The name whose own settings differ least, and those that differ."""
    best: tuple[str, dict[str, Any]] | None = None
    for name, kind in SAMPLERS.items():
        if kind.scheduler != scheduler:
            continue
        read = {key: settings.get(key) for key in kind.settings if key in CLASSES[scheduler] or key == "sigmas"}
        if "disable_corrector" in read:
            read["disable_corrector"] = tuple(read["disable_corrector"] or ())
        apart = {key: value for key, value in read.items() if value != kind.settings[key]}
        # A value of a name's own cannot be taken away, only replaced.
        if None not in apart.values() and (best is None or len(apart) < len(best[1])):
            best = name, apart
    if best is None:
        raise PlanError(f"{source}: expected the settings of {scheduler}, got null for some; leave those out")
    own = SamplerSettings(**best[1])
    # A student of fewer timesteps than diffusers' default count takes no more.
    steps = min(STEPS, own.original_inference_steps or STEPS)
    return SamplerChoice(best[0], steps, settings=own)


def scheduler_config(schedule: Schedule, choice: SamplerChoice) -> dict[str, Any]:
    """The scheduler_config.json with which diffusers draws as the sampler does, or as near as it can (`NEAREST`)."""
    kind = SAMPLERS[choice.name]
    name = NEAREST.get(choice.name) or str(kind.scheduler)
    settings = choice.settings.over(kind.settings) if choice.name not in NEAREST else SamplerSettings()
    given = settings.given()
    config: dict[str, Any] = {"_class_name": name} | CLASSES[name]
    config |= {key: value for key, value in given.items() if key in config}
    config |= {key: rule == settings.sigmas for key, rule in SIGMAS.items() if key in config}
    if choice.name in NEAREST:
        config |= {"timestep_spacing": "leading"} | ({"skip_prk_steps": True} if name == "PNDMScheduler" else {})
        config |= {"clip_sample": False} if "clip_sample" in config else {}
    config |= {"num_train_timesteps": schedule.train_steps, "prediction_type": schedule.prediction_type}
    config |= {
        key: getattr(schedule, key)
        for key in ("beta_start", "beta_end", "beta_schedule", "steps_offset", "set_alpha_to_one")
        if key in config
    }
    if "trained_betas" in config:
        config |= _betas(schedule, name, "rescale_betas_zero_snr" in config)
    if config.get("lambda_min_clipped") == -math.inf:
        # JSON has no infinity; diffusers' own default is the same.
        del config["lambda_min_clipped"]
    return config


def _betas(schedule: Schedule, name: str, rescales: bool) -> dict[str, Any]:
    """The schedule's betas as a class can have them: by its rule where it knows it, one by one where it does not."""
    by_rule = schedule.beta_schedule in BETA_SCHEDULES + MORE_BETA_SCHEDULES.get(name, ())
    if by_rule and (rescales or not schedule.rescale_betas_zero_snr):
        betas = None if schedule.trained_betas is None else list(schedule.trained_betas)
        return {"trained_betas": betas} | (
            {"rescale_betas_zero_snr": schedule.rescale_betas_zero_snr} if rescales else {}
        )
    alphas = alphas_cumprod(schedule).astype(np.float64)
    alphas[-1] = max(alphas[-1], ALMOST_NO_SIGNAL)
    betas = 1 - alphas / np.concatenate([[1.0], alphas[:-1]])
    return {"beta_schedule": "linear", "trained_betas": betas.tolist()}
