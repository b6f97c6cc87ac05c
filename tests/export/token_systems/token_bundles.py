"""Bundles of VQ-Diffusion's and CDCD's goldens, exported from their authors' files, and what a case asks of them."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from x2i.export.exporter import export_bundle
from x2i.export.plan import ExportPlan

from tests.goldens import found, golden
from tests.made_once import made_once
from tests.models.token_transformers.token_goldens import GoldenModel, checkpoints
from tests.runtime.token_samplers.mask_goldens import uniform

SYSTEMS = {"vq_diffusion": "vq-diffusion", "cdcd": "cdcd"}
"""Folders of goldens, and the systems that draw them."""
PRIORS = {0: None, 1: "uniform", 2: "purity"}


def golden_parts(model: GoldenModel) -> dict[str, Path]:
    """The files of a golden's folder by the names of the system's parts."""
    folder = model.config_file.parents[1]
    (codec,) = folder.glob("OUTPUT/pretrained_model/taming_dvae/*.pth")
    parts = {"checkpoint": model.checkpoint_file, "config": model.config_file, "codec": codec}
    code_maps = list(folder.glob("help_folder/statistics/*.pt"))
    parts |= {"codes": code_maps[0]} if code_maps else {}
    reads_text = (golden(model.system) / f"{model.folder}_textencoder.npz").exists()
    return parts | ({"tokenizer": golden(f"{model.system}/bpe_tiny.txt.gz")} if reads_text else {})


def golden_bundle_of(model: GoldenModel) -> Path:
    parts = golden_parts(model)

    def export(out: Path) -> None:
        export_bundle(ExportPlan(SYSTEMS[model.system], out, parts=parts))

    return made_once(f"golden-{model.system}-{model.folder}-{model.checkpoint_file.stem}", export, parts.values())


def golden_cases() -> list:
    """Every run in the folders, with its model and settings, as parameters of a test."""
    listed = []
    for system in SYSTEMS:
        if (path := found(f"{system}/cases.json")) is None:
            continue
        known = {(each.folder, each.checkpoint): each for each in checkpoints(system)}
        for name, case in json.loads(path.read_text("utf-8")).items():
            model = known[case["model_dir"], case["checkpoint"]]
            listed.append(pytest.param(model, name, case, id=f"{system}-{name}"))
    skipped = pytest.param(None, "", {}, marks=pytest.mark.skip("the goldens of discrete diffusion are not here"))
    return listed or [skipped]


def case_options(case: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """A run's keywords for a case, its recorded noise among them."""
    options: dict[str, Any] = {"noise": recorded_draws(arrays), "count": arrays["tokens_after"].shape[1]}
    for name in ("prompt", "class_id"):
        options |= {name: case[name]} if case[name] is not None else {}
    if case["truncation"] is None:
        options["untruncated"] = True
    else:
        options["truncation"] = case["truncation"]
    # The original guides only where it truncates, and not at all without something to go by.
    options["guidance"] = case["guidance"] if case.get("uncond_branch") else 1.0
    if case.get("skip_step"):
        options["fast"] = case["skip_step"] + 1
    if case.get("prior_rule"):
        options |= {"prior": PRIORS[case["prior_rule"]], "reveals": case["prior_ps"]}
        options |= {"prior_weight": case["prior_weight"]} if case["prior_rule"] == 2 else {}
    if case.get("filter_ratio"):
        side = math.isqrt(arrays["start_tokens"].shape[-1])
        options |= {"tokens": arrays["start_tokens"].reshape(-1, side, side), "strength": case["filter_ratio"]}
    return options


def recorded_draws(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The draws of a run by their names."""
    count, length = arrays["tokens_after"].shape[1:]
    draws = {"draw": uniform(arrays["noise_u16"])}
    if "select_exp_noise" in arrays:
        draws["select"] = arrays["select_exp_noise"].reshape(-1, count, length)
    if "q_sample_noise_u16" in arrays:
        draws["forward"] = uniform(arrays["q_sample_noise_u16"])[None]
    return draws
