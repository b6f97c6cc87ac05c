"""The runs that the gate compares by default: few and quick, whatever the system draws from."""

from typing import Any

import numpy as np
from x2i.runtime.manifest import Manifest
from x2i.runtime.noise import Noise
from x2i.runtime.plan import Decoder, Plan, matches

from .random_pictures import options

STEPS = 8
"""Enough for errors to add up as they do over a run; at full size a step takes seconds on a desktop's CPU."""
PROMPTS = ("a red {} on a table", "a small {} in the snow", "a {} and two dogs", "a photo of a {}")
MOST_LANGUAGES, RUNS = 8, 2
ALPHA = 0.6
"""Of few steps, a delay's own number of calls may be all."""


def default_cases(
    manifest: Manifest, steps: int = STEPS, size: tuple[int, int] | None = None, most: int | None = None
) -> list[dict[str, Any]]:
    """What to ask of a system, as `draw_references` takes it: a run for each language, `most` of them (8), or two runs.

    Prompts and seeds differ; systems that need a picture or a sound get those that random weights are drawn with.
    `size` (height, width) in pixels is the bundle's own where it is left out.
    """
    own = options(manifest.system) | ({} if manifest.plan.delay is None else {"alpha": ALPHA})
    if "sound" in own:
        own["sound"] = _heard(*own["sound"], manifest.plan)
    spoken = languages(manifest)[: most or MOST_LANGUAGES] or [None] * (most or RUNS)
    return [_run(manifest, own, seed, language, steps, size) for seed, language in enumerate(spoken)]


def languages(manifest: Manifest) -> list[str]:
    """The languages that a bundle reads, none where it does not ask."""
    patterns = [name for name in manifest.plan.graphs() if "{language}" in name]
    return sorted(set[str]().union(*(matches(name, set(manifest.graphs)) for name in patterns)))


def start_noise(decoder: Decoder, seed: int, size: tuple[int, int] | None = None) -> np.ndarray:
    """The noise that a run of this seed and size starts from, float32 [1, C, h, w]."""
    height, width = (side // decoder.factor for side in size or decoder.size)
    return Noise(seed, 1, (decoder.channels, height, width))()


def _heard(samples: np.ndarray, rate: int, plan: Plan) -> tuple[np.ndarray, int]:
    """No more of a sound than the system hears, in 16 bits."""
    (heard,) = (conditioner.sound for conditioner in plan.conditioners if conditioner.sound is not None)
    kept = samples[: heard.frames * rate // heard.rate]
    return np.round(kept * (2**15 - 1)).clip(-(2**15), 2**15 - 1).astype(np.int16), rate


def _run(
    manifest: Manifest,
    own: dict[str, Any],
    seed: int,
    language: str | None,
    steps: int,
    size: tuple[int, int] | None,
) -> dict[str, Any]:
    run = own | {"seed": seed, "steps": steps, "noise": start_noise(manifest.plan.decoder, seed, size)}
    if own["prompt"] is not None:
        # The letter is the placeholder word of one system and the marker of another.
        thing = "S" if {"subject", "subjects"} & set(own) else "house"
        run["prompt"] = PROMPTS[seed % len(PROMPTS)].format(thing)
    return run if language is None else run | {"language": language}
