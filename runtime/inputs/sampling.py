"""How a run is sampled: steps, guidance, sampler, noise, size and number of pictures. Every plan takes these."""

from collections.abc import Mapping
from typing import Annotated, TypedDict

import numpy as np

from ..samplers.registry import SAMPLERS
from ..samplers.settings import RULES, SPACINGS
from .option import Option, options_of

MOST_STEPS = 10_000
"""Of one run; the schedule of a bundle allows fewer."""
MOST_PICTURES = 1024
"""Of one call: more are drawn by several."""
MOST_PIXELS = 16384
"""Of one side of a picture."""


class SamplingOptions(TypedDict, total=False):
    """What any bundle may be told. What is left out comes from the preset or the plan."""

    seed: Annotated[int, Option("count", "Seed of the start noise.", default=0, least=0, most=2**63 - 1)]
    steps: Annotated[int | None, Option("count", "Denoising steps.", least=1, most=MOST_STEPS, checked_by_input=True)]
    guidance: Annotated[float | None, Option("number", "Guidance scale; 1 switches it off.")]
    preset: Annotated[
        str | None,
        Option(
            "text",
            "A preset of the bundle, such as fast; x2i inspect lists them.",
            checked_by_input=True,
            stored=False,
        ),
    ]
    noise: Annotated[
        np.ndarray | Mapping[str, np.ndarray] | None,
        Option(
            "array",
            "Start noise instead: .npy, float32 [count, C, h, w]; for tokens the draws by name: .npz.",
            stored=False,
        ),
    ]
    size: Annotated[tuple[int, int] | None, Option("size", "Height and width in pixels.", least=1, most=MOST_PIXELS)]
    count: Annotated[
        int | None,
        Option("count", "Pictures to draw; picture k has seed + k.", least=1, most=MOST_PICTURES, stored=False),
    ]


class LatentsOptions(TypedDict, total=False):
    """What a bundle that walks latents may be told."""

    sampler: Annotated[str | None, Option("text", f"Sampler: {', '.join(SAMPLERS)}.", checked_by_input=True)]
    spacing: Annotated[str | None, Option("choice", "Which timesteps the sampler visits.", choices=SPACINGS)]
    sigmas: Annotated[str | None, Option("choice", "How the sampler spaces its noise levels.", choices=RULES)]
    eta: Annotated[
        float | None, Option("number", "Share of fresh noise, where the sampler adds some.", least=0, most=1)
    ]


LATENTS_OPTIONS = options_of(LatentsOptions)
SAMPLING_OPTIONS = (*options_of(SamplingOptions), *LATENTS_OPTIONS)
