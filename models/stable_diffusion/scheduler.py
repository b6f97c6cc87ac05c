"""A checkpoint's noise schedule and prediction, under the names of diffusers' scheduler_config.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..readers.weights_folder import read_json

if TYPE_CHECKING:
    from torch import Tensor

PREDICTIONS = {"eps": "epsilon", "epsilon": "epsilon", "v": "v_prediction", "v_prediction": "v_prediction"}
"""What checkpoints call a prediction, and diffusers' word for it."""
MODELSPEC = "modelspec.prediction_type"
CLOSE = 2e-3
"""How far a stored schedule may be from its rule: some were kept in half precision."""


def read_scheduler(folder: Path) -> dict[str, Any]:
    """The settings of a diffusers folder's scheduler; `_class_name` is the class with which its pipeline loads them.

    Raises CheckpointError for files that cannot be read.
    """
    # DPM-Solver's lambda_min_clipped has no bound unless it is set, which diffusers writes so.
    settings = read_json(folder / "scheduler" / "scheduler_config.json", unset="-Infinity")
    if (folder / "model_index.json").is_file():
        named = read_json(folder / "model_index.json").get("scheduler")
        if isinstance(named, list) and len(named) == 2 and isinstance(named[1], str):
            settings["_class_name"] = named[1]
    return settings


def compvis_scheduler(train_steps: int, beta_start: float, beta_end: float, parameterization: str) -> dict[str, Any]:
    """The settings of a CompVis configuration, whose betas are squares of evenly spaced numbers; without a class."""
    return {
        "num_train_timesteps": train_steps,
        "beta_start": beta_start,
        "beta_end": beta_end,
        "beta_schedule": "scaled_linear",
        "prediction_type": PREDICTIONS.get(parameterization, parameterization),
        "steps_offset": 1,
        "set_alpha_to_one": False,
    }


def stored_scheduler(
    path: Path,
    tensors: Mapping[str, "Tensor"],
    metadata: Mapping[str, str],
    settings: Mapping[str, Any],
    source: str,
    problems: list[str],
) -> dict[str, Any]:
    """The settings of a configuration with what the checkpoint itself says: its schedule and what it predicts.

    A file says so by `betas`, by `alphas_cumprod`, by the marks `v_pred` and `ztsnr`, or in its metadata. A schedule
    without signal at its end is the configuration's, rescaled; any other `alphas_cumprod` stand for themselves. Betas
    that are not the configuration's belong to another one: they are a problem.
    """
    own = dict(settings)
    said = metadata.get(MODELSPEC)
    if said is not None and said not in PREDICTIONS:
        problems.append(f"{path}: expected {MODELSPEC} epsilon or v, got {said!r:.60}; use another checkpoint")
    marked = "v_prediction" if "v_pred" in tensors else PREDICTIONS.get(said or "")
    if marked is not None:
        own["prediction_type"] = marked
    alphas = _alphas_by_rule(settings)
    rescaled = _rescaled(alphas)
    stored = _stored_alphas(tensors)
    if stored is None:
        return own | {"rescale_betas_zero_snr": "ztsnr" in tensors}
    fits = stored.shape == alphas.shape
    if fits and np.allclose(stored, alphas, rtol=CLOSE, atol=1e-6):
        return own | {"rescale_betas_zero_snr": "ztsnr" in tensors}
    if fits and np.allclose(stored, rescaled, rtol=CLOSE, atol=1e-9):
        return own | {"rescale_betas_zero_snr": True}
    if not fits or "betas" in tensors or not ((stored > 0) & (stored < 1)).all():
        ends = f"{float(stored[0]):.6g} to {float(stored[-1]):.6g}" if stored.size else "none"
        problems.append(
            f"{path}: expected alphas_cumprod of {alphas.size} steps from {float(alphas[0]):.6g} to "
            f"{float(alphas[-1]):.6g} ({source}), got {stored.size} from {ends} (the file's betas or "
            "alphas_cumprod); fix: give the checkpoint's own configuration"
        )
        return own
    betas = 1 - stored / np.concatenate([[1.0], stored[:-1]])
    return own | {"trained_betas": np.maximum(betas, 0).tolist()}


def _stored_alphas(tensors: Mapping[str, "Tensor"]) -> np.ndarray | None:
    stored = tensors.get("betas", tensors.get("alphas_cumprod"))
    if stored is None:
        return None
    if stored.is_complex():
        # No level at all: torch would warn, and go on with a part of each number.
        return np.empty(0)
    levels = stored.double().flatten().numpy()
    return np.cumprod(1 - levels) if "betas" in tensors else levels


def _alphas_by_rule(settings: Mapping[str, Any]) -> np.ndarray:
    start, end = settings["beta_start"] ** 0.5, settings["beta_end"] ** 0.5
    return np.cumprod(1 - np.linspace(start, end, settings["num_train_timesteps"]) ** 2)


def _rescaled(alphas: np.ndarray) -> np.ndarray:
    """The same levels without signal at the end (Lin et al. 2023, arXiv 2305.08891, algorithm 1)."""
    roots = np.sqrt(alphas)
    return ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2
