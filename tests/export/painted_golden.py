"""The runs of the public Stable Diffusion port of paint-with-words, and the bundles that draw them again."""

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import load_file, save_file
from x2i.export.exporter import export_bundle
from x2i.export.plan import ExportPlan
from x2i.runtime import load
from x2i.runtime.pipeline import Pipeline

from tests.goldens import golden, golden_arrays
from tests.made_once import made_once

PWW = "ediffi/pww"


@cache
def pipeline() -> Pipeline:
    """The port's base."""
    base = golden(f"{PWW}/base")
    return load(made_once("golden-painted", lambda out: export_bundle(ExportPlan("sd", out, str(base))), (base,)))


@cache
def filling_pipeline() -> Pipeline:
    """The same base, whose UNet reads a mask and a masked picture."""
    base, other = golden(f"{PWW}/base"), golden(f"{PWW}/inpaint_unet")

    def export(out: Path) -> None:
        whole = out.with_name("base")
        shutil.copytree(base, whole, copy_function=shutil.copyfile)
        for folder in (whole, whole / "unet"):
            folder.chmod(0o755)
        weights = whole / "unet" / "diffusion_pytorch_model.safetensors"
        save_file(load_file(weights) | load_file(other / "conv_in_only.safetensors"), weights)
        shutil.copyfile(other / "config.json", whole / "unet" / "config.json")
        export_bundle(ExportPlan("sd", out, str(whole), inpainting=True))
        shutil.rmtree(whole)

    return load(made_once("golden-painted-filling", export, (base, other)))


def cases() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((golden(f"{PWW}/cases.json")).read_text(encoding="utf-8"))
    return found


def arrays_of(name: str) -> dict[str, np.ndarray]:
    return golden_arrays(f"{PWW}/{name}.npz")


def options_of(name: str, **changes: Any) -> dict[str, Any]:
    """A recorded run as options: sampled and painted as it was, from its own noise."""
    case, arrays = cases()[name], arrays_of(name)
    options: dict[str, Any] = {
        "negative": case["negative"],
        "sampler": "lms",
        "steps": case["steps"],
        "guidance": case["guidance"],
        "paint": np.asarray(Image.open(golden(f"{PWW}/maps/{case['map']}")).convert("RGB")),
        "paint_words": case["color_context"],
        "paint_strength": case["weight_scale"],
        "paint_form": "max" if case["weight"] == "zero" else case["weight"],
    }
    if case.get("inpaint"):
        draws = {"noise": "add_noise", "start": "posterior_noise", "filled": "masked_posterior_noise"}
        options |= {"start": arrays["init_u8"], "inpaint": arrays["mask_u8"], "start_strength": case["strength"]}
    elif case["init_image"] is not None:
        draws = {"noise": "add_noise", "start": "posterior_noise"}
        options |= {"start": arrays["init_u8"], "start_strength": case["strength"]}
    else:
        draws = {"noise": "base_noise"}
        draws |= {f"region.{number}": f"region_noise_{number}" for number in case["region_seeds"]}
    options["noise"] = {name: arrays[key][None] for name, key in draws.items()}
    return options | changes


def prompt_of(name: str) -> str:
    prompt: str = cases()[name]["prompt"]
    return prompt
