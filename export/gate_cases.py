"""The runs that the gate compares by default: few and quick, whatever the system draws from."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from x2i.runtime.inputs import SoundInput
from x2i.runtime.manifest import Manifest
from x2i.runtime.noise import Noise
from x2i.runtime.plan import Decoder, matches

from .random_pictures import options

STEPS = 8
"""Enough for errors to add up as they do over a run; at full size a step takes seconds on a desktop's CPU."""
PROMPTS = ("a red {} on a table", "a small {} in the snow", "a {} and two dogs", "a photo of a {}")
MOST_LANGUAGES, RUNS = 8, 2
ALPHA = 0.6
"""Of few steps, a delay's own number of calls may be all."""


def default_cases(
    manifest: Manifest, steps: int | None = None, size: tuple[int, int] | None = None, most: int | None = None
) -> list[dict[str, Any]]:
    """What to ask of a system, as `draw_references` takes it: a run for each language, `most` of them (8), or two runs.

    Prompts, sounds and seeds differ; systems that need a picture get the one that random weights are drawn with.
    `size` (height, width) in pixels is the bundle's own where it is left out.
    """
    own = options(manifest.system) | ({} if manifest.plan.delay is None else {"alpha": ALPHA})
    spoken: Sequence[str | None] = languages(manifest)[: most or MOST_LANGUAGES] or [None] * (most or RUNS)
    return [_run(manifest, own, seed, language, steps or STEPS, size) for seed, language in enumerate(spoken)]


def languages(manifest: Manifest) -> list[str]:
    """The languages that a bundle reads, none where it does not ask."""
    patterns = [name for name in manifest.plan.graphs() if "{language}" in name]
    return sorted(set[str]().union(*(matches(name, set(manifest.graphs)) for name in patterns)))


def start_noise(decoder: Decoder, seed: int, size: tuple[int, int] | None = None) -> np.ndarray:
    """The noise that a run of this seed and size starts from, float32 [1, C, h, w]."""
    height, width = (side // decoder.factor for side in size or decoder.size)
    return Noise(seed, 1, (decoder.channels, height, width))()


def rising_tone(sound: SoundInput, seed: int) -> tuple[np.ndarray, int]:
    """A tone that rises and dies away, int16 at the rate that the system hears; every seed has its own pitch.

    Of noise alone an encoder makes little, and small errors much.
    """
    seconds = np.arange(sound.frames) / sound.rate
    middle = seconds[-1] / 2
    tone = np.sin(2 * np.pi * (150 + 50 * seed + 300 * seconds) * seconds)
    loudness = 0.5 * np.exp(-(((seconds - middle) / (0.4 * middle)) ** 2))
    return np.round(tone * loudness * (2**15 - 1)).astype(np.int16), sound.rate


def _run(
    manifest: Manifest,
    own: dict[str, Any],
    seed: int,
    language: str | None,
    steps: int,
    size: tuple[int, int] | None,
) -> dict[str, Any]:
    run = own | {"seed": seed, "steps": steps, "noise": start_noise(manifest.plan.decoder, seed, size)}
    for conditioner in manifest.plan.conditioners:
        run |= {} if conditioner.sound is None else {"sound": rising_tone(conditioner.sound, seed)}
    if own["prompt"] is not None:
        # The letter is the placeholder word of one system and the marker of another.
        thing = "S" if {"subject", "subjects"} & set(own) else "house"
        run["prompt"] = PROMPTS[seed % len(PROMPTS)].format(thing)
    return run if language is None else run | {"language": language}
