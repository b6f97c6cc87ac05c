"""M-VADER's recorded sequences and runs, as items of ours."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from PIL import Image
from x2i.export.exporter import export_bundle
from x2i.export.plan import ExportPlan

from tests.goldens import FULL, golden, golden_arrays
from tests.made_once import made_once

HOME = "mvader"
ENCODED = ("joint", "separate")


def case_names() -> list[str]:
    path = FULL / HOME / "cases.json"
    return list(json.loads(path.read_text())) if path.is_file() else []


def m_vader_bundle() -> Path:
    folder = golden(f"{HOME}/model")

    def export(out: Path) -> None:
        export_bundle(ExportPlan("m-vader", out, base=str(folder), licences=("none: random",)))

    return made_once("m-vader-golden", export, [folder])


def contexts() -> dict[str, np.ndarray]:
    return golden_arrays(f"{HOME}/contexts.npz")


def unet() -> dict[str, np.ndarray]:
    return golden_arrays(f"{HOME}/unet.npz")


def timestep() -> int:
    """That of the recorded calls of the UNet."""
    (name,) = (name for name in unet() if name.startswith("null_t"))
    return int(name.removeprefix("null_t"))


def called(name: str) -> np.ndarray:
    """What the UNet said, by the name of a sequence or of weights."""
    return unet()[f"{name}_t{timestep()}"]


def weighted_sequence(weights: str) -> str:
    """The one whose positions have the recorded weights: as long, and with weights of one called alike."""
    length, same = unet()[f"weights_{weights}"].shape[1], called("additive_ones")
    names = [name for name in sequence_names() if contexts()[f"joint_{name}_context"].shape[1] == length]
    return min(names, key=lambda name: np.abs(called(f"joint_{name}") - same).max())


def sequence_names() -> list[str]:
    """Those of both ways to encode, such as `t0_i0`."""
    if not case_names():
        return []
    names = [name.removesuffix("_context") for name in contexts() if name.endswith("_context")]
    return [name.removeprefix("joint_") for name in names if name.startswith("joint_")]


def item(element: str, weight: float = 1.0) -> tuple[str, Any, float]:
    """An element such as `t0` or `i1`, as a run takes it."""
    number = element[1:]
    if element[0] == "i":
        return "image", Image.fromarray(contexts()[f"image_{number}_u8"]), weight
    return "text", words(contexts()[f"text_{number}_ids"][0].tolist()), weight


def words(ids: list[int]) -> str:
    """A text of these tokens of CLIP's."""
    vocabulary = json.loads(golden(f"{HOME}/model/tokenizer/vocab.json").read_text())
    pieces = {number: piece for piece, number in vocabulary.items()}
    return "".join(pieces[number].replace("</w>", " ") for number in ids).strip()


def tokens_of(text: str, bundle: Path) -> list[int]:
    tokenizer = tokenizers.Tokenizer.from_file(str(bundle / "tokenizer.json"))
    return tokenizer.encode(text, add_special_tokens=False).ids


@dataclass(frozen=True)
class MVaderCase:
    """One recorded run: its settings and all arrays."""

    settings: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def options(self) -> dict[str, Any]:
        own = self.settings
        weights = own.get("element_weights") or [1.0] * len(own["elements"])
        found = {
            "items": [item(*each) for each in zip(own["elements"], weights, strict=True)],
            "encoding": own["encoding"],
            "weighting": own["weighting"],
            "sampler": own["scheduler"],
            "steps": own["steps"],
            "guidance": own["guidance"],
            "noise": self.arrays["initial_latents"],
        }
        if "null_elements" in own:
            found["negative_items"] = [item(element) for element in own["null_elements"]]
        return found


def m_vader_case(name: str) -> MVaderCase:
    settings = json.loads(golden(f"{HOME}/cases.json").read_text())[name]
    return MVaderCase(settings, golden_arrays(f"{HOME}/{name}.npz"))
