"""The recorded runs of aMUSEd's pipelines, as our options and as the draws that they made."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from x2i.export.exporter import export_bundle
from x2i.export.plan import ExportPlan

from tests.goldens import FULL, golden, golden_arrays
from tests.made_once import made_once

HOME = "muse_amused"


def pipes() -> list[str]:
    """The recorded folders, none where the goldens are not here."""
    return sorted(path.name for path in (FULL / HOME).glob("pipe_*"))


def case_names() -> list[str]:
    path = FULL / HOME / "cases.json"
    return list(json.loads(path.read_text())) if path.is_file() else []


def muse_bundle(pipe: str) -> Path:
    folder = golden(f"{HOME}/{pipe}")
    plan = {"base": str(folder), "licences": ("none: random",)}
    return made_once(f"muse-{pipe}", lambda out: export_bundle(ExportPlan("muse", out, **plan)), [folder])


@dataclass(frozen=True)
class MuseCase:
    """One recorded run: `prompts` and `negatives`, one each, `pictures` of every prompt, and all arrays."""

    name: str
    settings: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def call(self) -> dict[str, Any]:
        return self.settings["call"]

    @property
    def prompts(self) -> list[str]:
        return listed(self.call["prompt"])

    @property
    def negatives(self) -> list[str]:
        given = self.call.get("negative_prompt")
        return [""] * len(self.prompts) if given is None else listed(given)

    @property
    def pictures(self) -> int:
        return self.call.get("num_images_per_prompt", 1)

    @property
    def rows(self) -> int:
        return len(self.prompts) * self.pictures

    @property
    def options(self) -> dict[str, Any]:
        """What does not depend on the prompt, as a run is told it."""
        names = {
            "num_inference_steps": "steps",
            "guidance_scale": "guidance",
            "temperature": "temperature",
            "strength": "strength",
            "micro_conditioning_crop_coord": "crop",
            "micro_conditioning_aesthetic_score": "aesthetic",
        }
        found = {ours: self.call[theirs] for theirs, ours in names.items() if theirs in self.call}
        if "height" in self.call:
            found["size"] = (self.call["height"], self.call["width"])
        if self.begins_with_ids:
            found["tokens"] = self.arrays["sample_before"][0]
        return found

    @property
    def begins_with_ids(self) -> bool:
        """Whether the caller gave the first state: of a run without a picture, one that is not masked throughout."""
        return "image" not in self.settings and len(np.unique(self.arrays["sample_before"][0])) > 1

    def given(self, what: str) -> list[Path]:
        """The files of pictures or masks, one for each prompt."""
        return [golden(f"{HOME}/images/{name}.png") for name in self.settings.get(what, [])]

    @property
    def noise(self) -> dict[str, np.ndarray]:
        """The draws by their names, [draws, rows, ...]."""
        arrays, calls = self.arrays, len(self.arrays["timesteps"])
        found = {
            "token": arrays["exp_noise"].reshape(calls, self.rows, -1, arrays["exp_noise"].shape[-1]),
        }
        if "uniform" in arrays:
            found["confidence"] = arrays["uniform"]
        if "add_uniform" in arrays:
            drawn = arrays["add_uniform"]
            found["start"] = np.tile(drawn.reshape(len(drawn), -1), (self.pictures, 1))[None]
        return found


def listed(given: Any) -> list[Any]:
    return list(given) if isinstance(given, list) else [given]


def muse_case(name: str) -> MuseCase:
    settings = json.loads(golden(f"{HOME}/cases.json").read_text())[name]
    return MuseCase(name, settings, golden_arrays(f"{HOME}/{name}.npz"))
