"""Karlo's recorded runs, as our options and as the draws that they made."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from x2i.export.exporter import export_bundle
from x2i.export.plan import ExportPlan

from tests.goldens import FULL, golden, golden_arrays
from tests.made_once import made_once

HOME = "unclip"
OPTIONS = {
    "prior_steps": "prior_steps",
    "decoder_steps": "steps",
    "super_res_steps": "super_resolution_steps",
    "prior_guidance": "prior_guidance",
    "decoder_guidance": "guidance",
}
STAGES = {"decoder": "", "prior": "prior_", "super_res": "super_resolution_"}


def case_names() -> list[str]:
    path = FULL / HOME / "cases.json"
    return list(json.loads(path.read_text())) if path.is_file() else []


def unclip_bundle() -> Path:
    folder = golden(f"{HOME}/model")
    plan = ExportPlan("unclip", Path(), base=str(folder), licences=("none: random",))

    def export(out: Path) -> None:
        export_bundle(ExportPlan(plan.system, out, base=plan.base, licences=plan.licences))

    return made_once("unclip-golden", export, [folder])


@dataclass(frozen=True)
class UnclipCase:
    """One recorded run: its settings and all arrays."""

    settings: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def prompt(self) -> Any:
        return self.settings.get("prompt")

    @property
    def options(self) -> dict[str, Any]:
        """A run's options; of a variation the embedding stands for the picture."""
        found = {ours: self.settings.get(theirs) for theirs, ours in OPTIONS.items()}
        found["noise"] = self.noise
        if self.prompt is None:
            found["image_embedding"] = self.arrays["image_embeddings"]
        return {name: value for name, value in found.items() if value is not None}

    @property
    def noise(self) -> dict[str, np.ndarray]:
        """The draws by their names, [draws, count, ...]."""
        found = {}
        for theirs, ours in STAGES.items():
            if f"{theirs}_initial" in self.arrays:
                found[f"{ours}noise"] = self.arrays[f"{theirs}_initial"][None]
                found[f"{ours}step_noise"] = self.arrays[f"{theirs}_noise"]
        return found


def unclip_case(name: str) -> UnclipCase:
    settings = json.loads(golden(f"{HOME}/cases.json").read_text())[name]
    return UnclipCase(settings, golden_arrays(f"{HOME}/{name}.npz"))
