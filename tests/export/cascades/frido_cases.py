"""Frido's recorded runs, as our options and as the draws that they made."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from x2i.export.exporter import export_bundle
from x2i.export.plan import ExportPlan
from x2i.models.frido.checkpoint import Frido, read_frido

from tests.goldens import FULL, found, golden, golden_arrays
from tests.made_once import made_once

HOME = "frido"
LEVELS = {0: "coarse_", 1: ""}
"""What stands before the names of a level's draws."""


def case_names() -> list[str]:
    path = FULL / HOME / "cases.json"
    return list(json.loads(path.read_text())) if path.is_file() else []


def task_names() -> list[str]:
    """The folders of checkpoints, one a task."""
    return list(dict.fromkeys(name.split("/")[0] for name in case_names()))


def frido_parts(task: str) -> dict[str, Path]:
    """A task's files, as `x2i export` takes them."""
    home = golden(f"{HOME}/{task}")
    parts = {"checkpoint": home / "checkpoints" / "model.ckpt", "config": home / "config.yaml"}
    return parts | ({"tokenizer": golden(f"{HOME}/bert_tokenizer")} if (home / "text.npz").is_file() else {})


@cache
def frido_of_task(task: str) -> Frido:
    parts = frido_parts(task)
    return read_frido(parts["checkpoint"], parts["config"])


def frido_bundle(task: str) -> Path:
    parts = frido_parts(task)

    def export(out: Path) -> None:
        export_bundle(ExportPlan("frido", out, parts=parts, licences=("none: random",)))

    return made_once(f"frido-golden-{task}", export, [*parts.values()])


def layouts(task: str) -> list[dict[str, Any]]:
    """The recorded layouts as the option `layout` takes them."""
    given = json.loads(golden(f"{HOME}/{task}/layouts.json").read_text())
    return [
        {"objects": objects, "crop": crop, "builder": given["builder"]}
        for objects, crop in zip(given["layouts"], given["crops"], strict=True)
    ]


@dataclass(frozen=True)
class FridoCase:
    """One recorded run: its task, its settings and all arrays."""

    task: str
    settings: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def coarse(self) -> int:
        """The channels of the coarse level."""
        return int(self.arrays["stage0_after_pool"].shape[1])

    @property
    def sides(self) -> int:
        """Rows of the guidance."""
        return 1 if self.settings["guidance"] == 1 else 2

    def level(self, number: int, array: np.ndarray) -> np.ndarray:
        """The channels [..., C, h, w] of one level of an array that may have those before it, too."""
        return array if number == 0 else array[..., self.coarse :, :, :]

    @property
    def noise(self) -> dict[str, np.ndarray]:
        """The draws by their names, [draws, count, C, h, w]."""
        initial = self.arrays["initial_noise"]
        found = {"coarse_noise": initial[None, :, : self.coarse], "noise": initial[None, :, self.coarse :]}
        for number, prefix in LEVELS.items():
            if f"stage{number}_noise" in self.arrays:
                found[f"{prefix}step_noise"] = self.level(number, self.arrays[f"stage{number}_noise"])
        return found

    @property
    def given(self) -> list[Any]:
        """What each picture is drawn of, a prompt or a layout: that whose recorded context is the run's."""
        context = self.arrays["context"]
        if found(f"{HOME}/{self.task}/text.npz") is not None:
            recorded = golden_arrays(f"{HOME}/{self.task}/text.npz")
            choices = [str(prompt) for prompt in recorded["prompts"]][: len(recorded["context"])]
        else:
            recorded, choices = golden_arrays(f"{HOME}/{self.task}/layout.npz"), layouts(self.task)
        distances = [[float(np.abs(row - other).max()) for other in recorded["context"]] for row in context]
        assert max(map(min, distances)) < 1e-4, "a run of another prompt or layout than the recorded ones"
        return [choices[int(np.argmin(row))] for row in distances]

    def options(self, number: int) -> dict[str, Any]:
        """A run's options for one of its pictures, the prompt among them."""
        given, settings = self.given[number], self.settings
        eta = {"eta": settings["eta"]} if settings["sampler"] == "ddim" else {}
        drawn = {"prompt": given} if isinstance(given, str) else {"layout": given}
        noise = {name: draws[:, number : number + 1] for name, draws in self.noise.items()}
        same = {name: settings[name] for name in ("sampler", "steps", "guidance")}
        return {**drawn, **same, **eta, "noise": noise}


def frido_case(name: str) -> FridoCase:
    settings = json.loads(golden(f"{HOME}/cases.json").read_text())[name]
    return FridoCase(name.split("/")[0], settings, golden_arrays(f"{HOME}/{name}.npz"))
