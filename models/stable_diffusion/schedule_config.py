"""The noise schedule a checkpoint was trained with, as its published configuration states it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..readers.weights_folder import read_json


@dataclass(frozen=True, slots=True)
class ScheduleConfig:
    """Stable Diffusion's "scaled linear" schedule with epsilon prediction.

    betas = linspace(sqrt(beta_start), sqrt(beta_end), train_steps)^2; `steps_offset` and `set_alpha_to_one` are
    diffusers' scheduler settings of the same name, at the values that equal CompVis' samplers.
    """

    train_steps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    steps_offset: int = 1
    set_alpha_to_one: bool = False


_KIND = {
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "trained_betas": None,
    "rescale_betas_zero_snr": False,
}


def read_schedule(folder: Path) -> ScheduleConfig:
    """The schedule of a diffusers folder, from its scheduler/scheduler_config.json; raises CheckpointError."""
    return parse_scheduler_config(read_json(folder / "scheduler" / "scheduler_config.json"), str(folder / "scheduler"))


def parse_scheduler_config(settings: Mapping[str, Any], source: str) -> ScheduleConfig:
    """A diffusers scheduler_config.json as a ScheduleConfig; CheckpointError lists every setting of another kind."""
    settings = {**_KIND, "beta_schedule": None, **settings}
    problems = [
        f"{source}: expected {key} {value!r}, got {settings[key]!r}; fix: give a checkpoint with Stable Diffusion "
        "v1's schedule"
        for key, value in _KIND.items()
        if settings[key] != value
    ]
    problems += [
        f"{source}: expected a number {key}, got {settings.get(key)!r}; fix: give the folder as it was published"
        for key in ("num_train_timesteps", "beta_start", "beta_end")
        if not isinstance(settings.get(key), int | float)
    ]
    if problems:
        raise CheckpointError(*problems)
    # DDIM and its heir LCM end on alpha 1 unless told otherwise; PNDM and the others have no such default.
    ends_on_one = settings.get("_class_name") in ("DDIMScheduler", "LCMScheduler")
    return ScheduleConfig(
        train_steps=int(settings["num_train_timesteps"]),
        beta_start=float(settings["beta_start"]),
        beta_end=float(settings["beta_end"]),
        steps_offset=int(settings.get("steps_offset", 0)),
        set_alpha_to_one=bool(settings.get("set_alpha_to_one", ends_on_one)),
    )
