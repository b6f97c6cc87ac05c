"""The runs that the gate compares and that int8 is calibrated on, where nobody spelled them out."""

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np
from x2i.runtime.bundle.manifest import Manifest
from x2i.runtime.bundle.plan import Plan
from x2i.runtime.inputs.option import CallContext, PreparedInputs
from x2i.runtime.inputs.registry import filled_in, input_stand_ins
from x2i.runtime.inputs.sound import SoundInput
from x2i.runtime.samplers.sampler import Noise

from .judge import Judge

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
    spoken: Sequence[str | None] = manifest.languages[: most or MOST_LANGUAGES] or [None] * (most or RUNS)
    return [_run(manifest, own, seed, language, steps or STEPS, size) for seed, language in enumerate(spoken)]


def start_noise(plan: Plan, seed: int, size: tuple[int, int] | None = None) -> np.ndarray:
    """Noise that a run of this size starts from, float32 [1, C, h, w], of one that walks several levels all channels;
    raises InputError for a size that cannot be drawn."""
    canvas, channels = plan.latents.canvas, sum(level.decoder.channels for level in plan.latent_levels)
    if size is not None:
        canvas.check(size)
    return Noise(seed, 1, (channels, *canvas.cells(size or canvas.size)))()


def _start(plan: Plan, seed: int, size: tuple[int, int] | None) -> dict[str, Any]:
    """What fixes a run's draws: the start noise of latents; tokens are drawn from the seed."""
    if plan.walks_latents:
        return {"noise": start_noise(plan, seed, size)}
    return {} if size is None else {"size": size}


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
    run = own | {"seed": seed} | _steps(_possible_steps(manifest.plan, steps)) | _start(manifest.plan, seed, size)
    if (sound := manifest.plan.find(SoundInput)) is not None:
        run["sound"] = rising_tone(sound, seed)
    if "prompt" in own:
        # The letter is the placeholder word of one system and the marker of another.
        thing = "S" if {"subject", "subjects"} & set(own) else "house"
        run["prompt"] = PROMPTS[seed % len(PROMPTS)].format(thing)
    return run if language is None else run | {"language": language}


CALIBRATED, HELD_OUT, COMPARED = 6, 2, 4
JUDGED = 16
"""How many of a judge's runs, which are small and quick, ranges are calibrated on."""
SEEDS = 1000
"""Where the seeds of the calibration's runs begin: the gate's are others."""


def calibration_runs(
    manifest: Manifest,
    steps: int | None = None,
    size: tuple[int, int] | None = None,
    judge: Judge | None = None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Options of the runs that set ranges and of those kept apart to measure with: the judge's, if there is one.

    `steps` are 8, or for a judge the bundle's own, where they are left out; `size` (height, width) in pixels is the
    bundle's own.
    """
    if judge is not None:
        runs = [run | {"seed": SEEDS + number} | _steps(steps) for number, run in enumerate(judge.runs(manifest))]
        return runs[:: max(1, len(runs) // JUDGED)], runs[1 :: max(1, len(runs) // HELD_OUT)][:HELD_OUT]
    own_size = {} if size is None else {"size": size}
    found = default_cases(manifest, steps or STEPS, size, CALIBRATED + HELD_OUT)
    # Their noise is the gate's; these draw their own. A bundle of few languages hears each more than once.
    runs = [
        {name: value for name, value in run.items() if name != "noise"} | own_size | {"seed": SEEDS + number}
        for number, run in zip(range(CALIBRATED + HELD_OUT), cycle(found), strict=False)
    ]
    return runs[:-HELD_OUT], runs[-HELD_OUT:]


def compared_runs(
    manifest: Manifest,
    steps: int | None = None,
    size: tuple[int, int] | None = None,
    judge: Judge | None = None,
) -> list[dict[str, Any]]:
    """Options of the gate's runs, the judge's if there is one, each with its start noise, float32 [1, C, h, w].

    `steps` and `size` are as in `calibration_runs`.
    """
    if judge is None:
        return default_cases(manifest, steps or STEPS, size)
    known = judge.runs(manifest)
    chosen = [known[number] for number in np.linspace(0, len(known) - 1, COMPARED).astype(int)]
    return [run | _steps(steps) | _start(manifest.plan, run["seed"], size) for run in chosen]


def _possible_steps(plan: Plan, steps: int) -> int | None:
    """So many steps, or as few more as a walk through tokens can have; None where it has its own number alone."""
    if plan.walks_latents:
        return steps
    for number in range(steps, plan.process.steps):
        values, made = filled_in({"steps": number}), PreparedInputs()
        plan.tokens.sampler.prepare(CallContext(values, None, None, 1, number), made)
        if not made.problems:
            return number
    return None


def _steps(steps: int | None) -> dict[str, int]:
    return {} if steps is None else {"steps": steps}
