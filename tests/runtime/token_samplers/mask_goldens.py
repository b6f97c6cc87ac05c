"""Mask-and-replace diffusion in the goldens: each family's sampler, its recorded noise, and its runs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from x2i.runtime.token_samplers.mask_replace import MaskReplace
from x2i.runtime.token_samplers.noise import TokenNoise
from x2i.runtime.token_samplers.sampler import Predict, TokenRun

from tests.goldens import found, golden_arrays

FAMILIES: dict[str, dict[str, Any]] = {
    "vq_diffusion": {"priors": True},
    "cdcd": {},
    "diffsound": {"masked": (9e-6, 0.9), "mask_replaces": True, "older_posterior": True},
    "cdcd/music": {"mask_replaces": True, "older_posterior": True, "strides": False},
}
"""What each family's SPEC says of its sampler, beside the numbers of classes and timesteps."""


def options(**given: Any) -> dict[str, Any]:
    """A run's options, those of the loop among them, with defaults for the others."""
    values = {option.name: option.default for option in MaskReplace.OPTIONS} | {"steps": None, "strength": None}
    assert given.keys() <= values.keys()
    return values | given


def sampler_of(family: str, classes: int, steps: int, **given: Any) -> MaskReplace:
    return MaskReplace(classes=classes, steps=steps, **FAMILIES[family] | given)


def classes_last(values: np.ndarray) -> np.ndarray:
    """The goldens have classes before tokens."""
    return np.ascontiguousarray(np.moveaxis(values, -2, -1))


def uniform(noise: np.ndarray) -> np.ndarray:
    """The draws that a golden's uint16 stand for, classes last."""
    return classes_last((noise.astype(np.float32) + np.float32(0.5)) / np.float32(65536))


@dataclass(frozen=True)
class GoldenRun:
    """One run of the originals: `<family>/<name>.npz`."""

    family: str
    name: str

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        return golden_arrays(f"{self.family}/{self.name}.npz")


def golden_runs(with_array: str = "tokens_after") -> list:
    """Every run in the folders that has an array of this name, as parameters of a test."""
    listed = [
        pytest.param(GoldenRun(family, path.stem), id=f"{family.replace('/', '-')}-{path.stem}")
        for family in FAMILIES
        if (folder := found(family)) is not None
        for path in sorted(folder.glob("run_*.npz"))
        if with_array in _names(path)
    ]
    return listed or [pytest.param(None, marks=pytest.mark.skip("the goldens of discrete diffusion are not here"))]


def _names(path: Any) -> Iterable[str]:
    with np.load(path, allow_pickle=False) as arrays:
        return arrays.files


def recorded(arrays: Mapping[str, np.ndarray]) -> TokenNoise:
    """A run's noise. Its rows reveal as many tokens at each call, so places are drawn for all of them or for none."""
    count = arrays["tokens_after"].shape[1]
    noise = {"draw": uniform(arrays["noise_u16"])}
    if "select_exp_noise" in arrays:
        noise["select"] = arrays["select_exp_noise"].reshape(-1, count, arrays["tokens_after"].shape[2])
    if "q_sample_noise_u16" in arrays:
        noise["forward"] = uniform(arrays["q_sample_noise_u16"])[None]
    return TokenNoise(0, count, noise)


def token_run(arrays: Mapping[str, np.ndarray], predict: Predict, **given: Any) -> TokenRun:
    """A golden's run with these options, from its own noise."""
    _, count, length = arrays["tokens_after"].shape
    return TokenRun(predict, recorded(arrays), count, (1, length), options(**given), {})


def with_slots(run: TokenRun, **slots: np.ndarray) -> TokenRun:
    """The run with more slots filled."""
    return replace(run, slots=run.slots | slots)
