"""One call's options, checked against the plan; every problem is told at once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from .bundle.cfg_batch import cfg_rows
from .bundle.manifest import Manifest
from .bundle.plan import Decoder, NamedTensors, Plan, matches
from .bundle.preset import Preset
from .errors import InputError
from .inputs.given import Given
from .inputs.marker import Marked
from .inputs.prepare import CallContext, PreparedInputs, prepare_inputs
from .inputs.prompt import Tokenizer, is_text
from .sampling.registry import make_sampler
from .sampling.sampler import Sampler


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller asks for, defaults filled in. `size` is (height, width) in pixels; `noise` is None or float32.

    `slots` are what pictures, sound, word and strength fill before the first graph; `words` is how many of the
    subject's embeddings to place; `marked` is the prompt with its markers read; a delayed segment waits for the UNet
    call number `last_plain_call`; `mix` is the caller's; `notes` are warnings; `apart` has the UNet called for one side
    of the guidance after the other.
    """

    prompt: str
    negative: str
    options: dict[str, str]
    sampler: Sampler
    guidance: float
    seed: int
    noise: np.ndarray | None
    size: tuple[int, int]
    count: int
    slots: NamedTensors
    words: int
    marked: Marked | None
    last_plain_call: float
    preset: Preset
    mix: int | None
    notes: tuple[str, ...]
    apart: bool = False

    @property
    def sides(self) -> int:
        """Rows of the guidance, as `sides_of` counts them."""
        return cfg_rows(self.guidance)


def make_request(
    manifest: Manifest,
    prompt: str | None = None,
    tokenizer: Tokenizer | None = None,
    mixes: bool = False,
    /,
    *,
    language: str | None = None,
    negative: str = "",
    steps: int | None = None,
    guidance: float | None = None,
    sampler: str | None = None,
    seed: int = 0,
    noise: np.ndarray | None = None,
    size: tuple[int, int] | None = None,
    count: int | None = None,
    preset: str | None = None,
    **given: Any,
) -> Request:
    """Fills in the plan's defaults and raises InputError with one line per problem.

    `given` are the fields of `Given`; `tokenizer` is the prompt's, for a plan in whose prompt a word or marker stands;
    `mixes` says that another bundle's context is mixed in.
    """
    plan, problems = manifest.plan, preset_problems(manifest.plan, preset)
    chosen = plan.presets.get(preset or "", Preset())
    options, found = _choose(manifest, {"language": language})
    noise, size, count, misshapen = _shape(plan.decoder, noise, size, count)
    problems += found + _prompt_problems(plan, prompt, negative) + misshapen
    guidance = plan.guidance.scale if guidance is None else guidance
    problems += _value_problems(prompt, negative, guidance, seed, count)
    steps = next(number for number in (steps, chosen.steps, plan.sampler.steps) if number is not None)
    # Of a scale that is no number nothing can be counted.
    sides = cfg_rows(guidance) if isinstance(guidance, Real) else 2
    filled = prepare_inputs(plan, CallContext(Given(**given), prompt, tokenizer, sides, mixes, chosen.delay), steps)
    problems += filled.problems
    try:
        walk = _sampler(plan, chosen.sampler if sampler is None else sampler, steps)
    except InputError as error:
        problems += error.problems
    if problems:
        raise InputError(*problems)
    return Request(
        prompt="" if prompt is None else prompt,
        negative=negative,
        options=options,
        sampler=walk,
        guidance=guidance,
        seed=seed,
        noise=noise,
        size=size,
        count=count,
        slots=filled.slots,
        words=filled.words,
        marked=filled.marked,
        last_plain_call=filled.last_plain_call,
        preset=chosen,
        mix=given.get("mix"),
        notes=(*filled.notes, *_delay_notes(plan, filled, walk)),
    )


def check_preset(plan: Plan, name: str | None) -> None:
    """Raises InputError for a preset that the bundle does not have."""
    if problems := preset_problems(plan, name):
        raise InputError(*problems)


def preset_problems(plan: Plan, name: str | None) -> list[str]:
    if name is None or name in plan.presets:
        return []
    known = f"expected one of {', '.join(plan.presets)}" if plan.presets else "this bundle has none"
    return [f"preset: {known}, got {name!r}; make one with x2i tune BUNDLE"]


def _sampler(plan: Plan, name: str | None, steps: int) -> Sampler:
    name = plan.sampler.name if name is None else name
    known = plan.sampler.aliases.get(name, name) if isinstance(name, str) else name
    return make_sampler(known, plan.schedule, steps)


def _delay_notes(plan: Plan, filled: PreparedInputs, walk: Sampler) -> tuple[str, ...]:
    """A delay past the last call is as the authors have it, but hardly what anyone wants who marked a subject."""
    marked = filled.marked is None or filled.marked.count > 0
    if plan.delay is None or not marked or filled.last_plain_call < walk.calls - 1:
        return ()
    return (
        f"delay: all {walk.calls} UNet calls see the text alone, and none the subjects; raise alpha (--delay) or lower "
        "start_merge_step",
    )


def _prompt_problems(plan: Plan, prompt: str | None, negative: str) -> list[str]:
    """A plan with a text input needs a prompt, one without takes neither prompt nor negative."""
    if any(conditioner.text is not None for conditioner in plan.conditioners):
        return ["prompt: expected text, got none; say what to draw"] if prompt is None else []
    lost = [name for name, text in (("prompt", prompt), ("negative", negative)) if isinstance(text, str) and text]
    fix = "leave it out"
    if any(conditioner.mix is not None for conditioner in plan.conditioners):
        fix += ", or open the bundle with a text bundle of the same base, to mix both"
    return [f"{name}: this bundle reads no text; {fix}" for name in lost]


def _choose(manifest: Manifest, given: dict[str, str | None]) -> tuple[dict[str, str], list[str]]:
    """The plan's options with the caller's values, each of which must be given."""
    chosen, problems = {}, []
    patterns = [name for name in manifest.plan.graphs() if "{" in name]
    for option, value in given.items():
        present = [matches(name, set(manifest.graphs)) for name in patterns if f"{{{option}}}" in name]
        values = sorted(set().union(*present))
        if not values and value is not None:
            problems.append(f"{option}: this bundle ({manifest.system}) takes none, got {value!r}; leave it out")
        elif values and value not in values:
            got = "none" if value is None else repr(value)
            problems.append(f"{option}: expected one of {', '.join(values)}, got {got}")
        elif value is not None:
            chosen[option] = value
    return chosen, problems


def _shape(
    decoder: Decoder, noise: np.ndarray | None, size: tuple[int, int] | None, count: int | None
) -> tuple[np.ndarray | None, tuple[int, int], int, list[str]]:
    """The noise as the loop takes it, size and count as the noise or the plan has them, and problems."""
    problems: list[str] = []
    if noise is not None:
        noise, problems = _check_noise(noise, decoder.channels)
        if not problems:
            from_noise = (noise.shape[2] * decoder.factor, noise.shape[3] * decoder.factor)
            problems = _disagreements(from_noise, size, len(noise), count)
            size, count = from_noise, len(noise)
    size = decoder.size if size is None else size
    return noise, size, 1 if count is None else count, problems + _size_problems(size, decoder.size_multiple)


def _check_noise(noise: np.ndarray, channels: int) -> tuple[np.ndarray, list[str]]:
    noise = np.asarray(noise)
    if noise.ndim != 4 or noise.shape[1] != channels or 0 in noise.shape or noise.dtype.kind != "f":
        return noise, [
            f"noise: expected float32 [count, {channels}, height, width], got {noise.dtype} {list(noise.shape)}"
        ]
    if not np.isfinite(noise).all():
        bad = int((~np.isfinite(noise)).sum())
        return noise, [f"noise: expected finite numbers, got {bad} NaN or infinite values; draw it again"]
    return np.ascontiguousarray(noise, np.float32), []


def _disagreements(from_noise: tuple, size: tuple | None, pictures: int, count: int | None) -> list[str]:
    problems = []
    if size is not None and tuple(size) != from_noise:
        problems.append(f"size: the noise is for {from_noise[0]}x{from_noise[1]}, got {size}; leave size out")
    if count is not None and count != pictures:
        problems.append(f"count: the noise holds {pictures} pictures, got {count}; leave count out")
    return problems


def _size_problems(size: tuple[int, int], multiple: int) -> list[str]:
    whole = (
        isinstance(size, Sequence) and len(size) == 2 and all(isinstance(side, Integral) and side > 0 for side in size)
    )
    if whole and all(side % multiple == 0 for side in size):
        return []
    fix = ""
    if whole:
        near = [max(multiple, round(side / multiple) * multiple) for side in size]
        fix = f"; try {near[0]}x{near[1]}"
    return [f"size: expected (height, width) in multiples of {multiple} pixels, got {size}{fix}"]


def _value_problems(prompt: str | None, negative: str, guidance: float, seed: int, count: int) -> list[str]:
    problems: list[str] = []
    problems += [
        f"{name}: expected text in Unicode, got {text!r}"
        for name, text in (("prompt", "" if prompt is None else prompt), ("negative", negative))
        if not is_text(text)
    ]
    if not isinstance(guidance, Real) or not math.isfinite(guidance):
        problems.append(f"guidance: expected a finite number, got {guidance!r}")
    if not isinstance(seed, Integral) or seed < 0:
        problems.append(f"seed: expected a whole number >= 0, got {seed!r}")
    if not isinstance(count, Integral) or count < 1:
        problems.append(f"count: expected a whole number >= 1, got {count!r}")
    return problems
