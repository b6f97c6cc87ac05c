"""The runs that the gate compares and that int8 is calibrated on, where nobody spelled them out."""

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np
from x2i.emoji.eval_prompts import eval_prompts
from x2i.runtime.bundle.manifest import Manifest
from x2i.runtime.bundle.plan import Decoder, matches
from x2i.runtime.inputs.registry import input_stand_ins
from x2i.runtime.inputs.sound import SoundInput
from x2i.runtime.sampling.sampler import Noise

from .lower.lowering import Lowering

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

    Prompts, sounds and seeds differ; systems that need a picture get the one that stands in.
    `size` (height, width) in pixels is the bundle's own where it is left out.
    """
    own = input_stand_ins(manifest.plan.inputs()) | ({} if manifest.plan.delay is None else {"alpha": ALPHA})
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
    if (sound := manifest.plan.find(SoundInput)) is not None:
        run["sound"] = rising_tone(sound, seed)
    if "prompt" in own:
        # The letter is the placeholder word of one system and the marker of another.
        thing = "S" if {"subject", "subjects"} & set(own) else "house"
        run["prompt"] = PROMPTS[seed % len(PROMPTS)].format(thing)
    return run if language is None else run | {"language": language}


CALIBRATED, HELD_OUT, COMPARED = 6, 2, 4
JUDGED = 16
"""Of a judge's drawings, which are small and quick, more are calibrated on: a sixteenth, an eighth, a fourth."""
SEEDS = 1000
"""Where the seeds of the calibration's runs begin: the gate's are others."""


def calibration_runs(manifest: Manifest, lowering: Lowering) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Options of the runs that set ranges and of those kept apart to measure with."""
    if lowering.judge is not None:
        known = [ask.options | {"seed": SEEDS + number} for number, ask in enumerate(eval_prompts(manifest.system))]
        steps = {} if lowering.steps is None else {"steps": lowering.steps}
        runs = [run | steps for run in known]
        return runs[:: len(runs) // JUDGED], runs[1 :: len(runs) // HELD_OUT][:HELD_OUT]
    size = {} if lowering.size is None else {"size": lowering.size}
    found = default_cases(manifest, lowering.steps or STEPS, lowering.size, CALIBRATED + HELD_OUT)
    # Their noise is the gate's; these draw their own. A bundle of few languages hears each more than once.
    runs = [
        {name: value for name, value in run.items() if name != "noise"} | size | {"seed": SEEDS + number}
        for number, run in zip(range(CALIBRATED + HELD_OUT), cycle(found), strict=False)
    ]
    return runs[:-HELD_OUT], runs[-HELD_OUT:]


def compared_runs(manifest: Manifest, lowering: Lowering) -> list[dict[str, Any]]:
    """Options of the gate's runs, each with its start noise, float32 [1, C, h, w]."""
    if lowering.judge is None:
        return default_cases(manifest, lowering.steps or STEPS, lowering.size)
    known = eval_prompts(manifest.system)
    chosen = [known[number].options for number in np.linspace(0, len(known) - 1, COMPARED).astype(int)]
    steps = {} if lowering.steps is None else {"steps": lowering.steps}
    return [run | steps | {"noise": start_noise(manifest.plan.decoder, run["seed"], lowering.size)} for run in chosen]
