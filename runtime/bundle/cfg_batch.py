"""Classifier-free guidance as a batch: how many rows a call has, and which rows of a tensor it reads."""

import numpy as np

from .plan import Plan
from .preset import CROSS


def expand_cfg(array: np.ndarray, sides: int) -> np.ndarray:
    """The rows for both sides of the guidance, or for the conditional side alone; a single row serves both."""
    return np.repeat(array, sides, axis=0) if len(array) == 1 else array[-sides:]


def cfg_batch_sizes(plan: Plan, graph: str) -> tuple[int, ...]:
    """Those of the plan's own guidance first; a preset that guides part of the way calls its graphs with either."""
    guidance = plan.process.guidance
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
