"""Classifier-free guidance as a batch: how many rows a call has, and which rows of a tensor it reads."""

from collections.abc import Mapping, Sequence

import numpy as np

from .plan import Plan
from .preset import CROSS


def expand_cfg(array: np.ndarray, sides: int) -> np.ndarray:
    """The rows for both sides of the guidance, or for the conditional side alone; a single row serves both."""
    return np.repeat(array, sides, axis=0) if len(array) == 1 else array[-sides:]


def expand_prompts(array: np.ndarray, sides: int, rows: int, prompts: int) -> np.ndarray:
    """The rows [sides * prompts] for several prompts, those of a side beside each other, of a run with `rows` of the
    guidance. A tensor of up to so many rows serves every prompt; `merged_prompts` gives one with a row for each."""
    if prompts == 1 or len(array) <= rows:
        return np.repeat(expand_cfg(array, sides), prompts, axis=0)
    return array[-sides * prompts :]


def merged_prompts(parts: Sequence[Mapping[str, np.ndarray]], rows: int) -> dict[str, np.ndarray]:
    """The tensors of several prompts, each encoded by itself for `rows` rows of the guidance: one that is the same for
    all as it is, any other with a row for each prompt, side after side."""
    found = {}
    for name, first in parts[0].items():
        each = [part[name] for part in parts]
        if all(other is first or np.array_equal(other, first) for other in each[1:]):
            found[name] = first
        else:
            sides = np.stack([expand_cfg(array, rows) for array in each], axis=1)
            found[name] = sides.reshape(-1, *first.shape[1:])
    return found


def cfg_batch_sizes(plan: Plan, graph: str) -> tuple[int, ...]:
    """Those of the plan's own guidance first; a preset that guides part of the way calls its graphs with either."""
    guidance = plan.main.guidance
    usual = guidance.rows(guidance.scale)
    found: set[int] = set()
    for denoiser in plan.denoisers():
        for preset in plan.presets.values():
            for variant in (variant for variant in preset.variants(denoiser) if variant.name == graph):
                found |= (
                    {1} if CROSS in variant.features_in else {usual} if preset.guidance_interval is None else {usual, 1}
                )
    if not found or graph in plan.denoisers():
        found.add(usual)
    return tuple(sorted(found, reverse=True))
