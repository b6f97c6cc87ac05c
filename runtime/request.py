"""One call's options, checked against the plan; every problem is told at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Unpack

import numpy as np

from .bundle.cfg_batch import cfg_rows
from .bundle.manifest import Manifest
from .bundle.plan import Decoder, Plan, matches
from .bundle.preset import Preset
from .errors import InputError, UnknownOptionError, reason
from .inputs.option import CallContext, PreparedInputs, is_count, is_number, short, unknown_options
from .inputs.registry import RunOptions, filled_in, prepare_inputs, run_options
from .inputs.sampling import MOST_PICTURES, MOST_PIXELS, MOST_STEPS, SAMPLING_OPTIONS
from .inputs.sound import MixInput
from .machine import available_memory
from .media.tokenizer import Tokenizer, is_text
from .samplers.sampler import Sampler
from .samplers.settings import SamplerSettings

BYTES_PER_PIXEL = 30
"""The least that a picture takes while it is decoded: its channels in float32 twice, in bytes twice."""
SMALL_DRAWING_BYTES = 500_000_000
"""Less is drawn without a look at the memory."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller asks for, defaults filled in.

    `values` holds every option by its name as the caller gave it; `choices` completes the names of graphs that stand
    for a choice, such as `language`. `size` is (height, width) in pixels; `noise` is None or float32 [count, C, h, w].
    `inputs` is what pictures, sound, word and strength fill before the first graph. `preset_name` is None for the plain
    loop. With `split_cfg_batch` the UNet is called for one side of the guidance after the other.
    """

    prompt: str
    values: Mapping[str, Any]
    choices: dict[str, str]
    sampler: Sampler
    guidance: float
    seed: int
    noise: np.ndarray | None
    size: tuple[int, int]
    count: int
    inputs: PreparedInputs
    preset: Preset
    preset_name: str | None
    notes: tuple[str, ...]
    split_cfg_batch: bool = False

    @property
    def rows(self) -> int:
        """Rows of the guidance, as `cfg_rows` counts them."""
        return cfg_rows(self.guidance)

    def latent_shape(self, decoder: Decoder) -> tuple[int, int, int]:
        """(channels, height, width) of one picture's latents."""
        return decoder.channels, self.size[0] // decoder.factor, self.size[1] // decoder.factor


def make_request(
    manifest: Manifest,
    prompt: str | None = None,
    tokenizer: Tokenizer | None = None,
    mixes: bool = False,
    /,
    **given: Unpack[RunOptions],
) -> Request:
    """Fills in the plan's defaults and raises InputError with one line per problem; where keywords are no options,
    UnknownOptionError.

    `tokenizer` is the prompt's, for a plan in whose prompt a word or marker stands; `mixes` says that another bundle's
    context is mixed in.
    """
    plan, values = manifest.plan, filled_in(given)
    unknown = unknown_options(given, run_options())
    problems = unknown + preset_problems(plan, values["preset"])
    preset = Preset() if problems or values["preset"] is None else plan.presets[values["preset"]]
    choices, found = _choose(manifest, {"language": values["language"]})
    noise, size, count, misshapen = _shape(plan.decoder, values["noise"], values["size"], values["count"])
    problems += found + _prompt_problems(plan, prompt, values["negative"]) + misshapen
    guidance = plan.guidance.scale if values["guidance"] is None else values["guidance"]
    problems += _value_problems(prompt, values | {"guidance": guidance, "count": count})
    steps = next(number for number in (values["steps"], preset.steps, plan.sampler.steps) if number is not None)
    # Of a scale that is no number nothing can be counted.
    rows = cfg_rows(guidance) if is_number(guidance) else 2
    made = prepare_inputs(plan.inputs(), CallContext(values, prompt, tokenizer, rows, steps, mixes, preset.delay))
    problems += made.problems
    try:
        name = preset.sampler if values["sampler"] is None else values["sampler"]
        sampler = _sampler(plan, name, steps, values)
    except InputError as error:
        problems += error.problems
    if problems:
        raise UnknownOptionError(*problems) if unknown else InputError(*problems)
    return Request(
        prompt="" if prompt is None else prompt,
        values=values,
        choices=choices,
        sampler=sampler,
        guidance=guidance,
        seed=values["seed"],
        noise=noise,
        size=size,
        count=count,
        inputs=made,
        preset=preset,
        preset_name=values["preset"],
        notes=(*made.notes, *_delay_notes(plan, made, sampler)),
    )


def check_preset(plan: Plan, name: str | None) -> None:
    """Raises InputError for a preset that the bundle does not have."""
    if problems := preset_problems(plan, name):
        raise InputError(*problems)


def preset_problems(plan: Plan, name: str | None) -> list[str]:
    """One line where the plan has no preset of this name; None stands for the plain loop."""
    if name is None or (isinstance(name, str) and name in plan.presets):
        return []
    known = f"expected one of {', '.join(plan.presets)}" if plan.presets else "this bundle has none"
    return [f"preset: {known}, got {short(name)}; make one with x2i tune BUNDLE"]


def _sampler(plan: Plan, name: Any, steps: Any, values: Mapping[str, Any]) -> Sampler:
    """The sampler asked for; raises InputError, also for what only Python can give: values of another type."""
    if not isinstance(name, str | None):
        raise InputError(f"sampler: expected the name of one, got {short(name)}")
    if not is_number(steps) or steps > MOST_STEPS:
        raise InputError(f"steps: expected a whole number from 1 to {MOST_STEPS}, got {short(steps)}")
    if any(option.problem(values[option.name]) for option in SAMPLING_OPTIONS if option.form == "choice"):
        # They are told with the other values; nothing can be compared with some, such as arrays.
        raise InputError
    asked: Any = steps
    return plan.sampler.make(plan.schedule, name, asked, SamplerSettings.from_options(values))


def _delay_notes(plan: Plan, made: PreparedInputs, sampler: Sampler) -> tuple[str, ...]:
    """A delay past the last call is as the authors have it, but hardly what anyone wants who marked a subject."""
    if plan.delay is None or made.marked == 0 or made.delay_until_call < sampler.calls - 1:
        return ()
    return (
        f"delay: all {sampler.calls} UNet calls see the text alone, and none the subjects; raise alpha (--delay) or "
        "lower start_merge_step",
    )


def _prompt_problems(plan: Plan, prompt: str | None, negative: Any) -> list[str]:
    """A plan with a text input needs a prompt, one without takes neither prompt nor negative."""
    if any(conditioner.text is not None for conditioner in plan.conditioners):
        return ["prompt: expected text, got none; say what to draw"] if prompt is None else []
    lost = [name for name, text in (("prompt", prompt), ("negative", negative)) if isinstance(text, str) and text]
    fix = "leave it out"
    if plan.find(MixInput) is not None:
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
            problems.append(f"{option}: this bundle ({manifest.system}) takes none, got {short(value)}; leave it out")
        elif values and not (isinstance(value, str) and value in values):
            got = "none" if value is None else short(value)
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
    count = 1 if count is None else count
    problems += _size_problems(size, decoder.size_multiple)
    return noise, size, count, problems or _memory_problems(size, count)


def _check_noise(noise: np.ndarray, channels: int) -> tuple[np.ndarray, list[str]]:
    try:
        noise = np.asarray(noise)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        return np.empty(0), [
            f"noise: expected an array of float32, got {short(noise)}, which is none ({reason(error)})"
        ]
    if noise.ndim != 4 or noise.shape[1] != channels or 0 in noise.shape or noise.dtype.kind != "f":
        return noise, [
            f"noise: expected float32 [count, {channels}, height, width], got {noise.dtype} {list(noise.shape)}"
        ]
    if max(noise.shape) > MOST_PIXELS:
        return noise, [f"noise: expected at most {MOST_PIXELS} along each axis, got {list(noise.shape)}; draw less"]
    if not np.isfinite(noise).all():
        bad = int((~np.isfinite(noise)).sum())
        return noise, [f"noise: expected finite numbers, got {bad} NaN or infinite values; draw it again"]
    return np.ascontiguousarray(noise, np.float32), []


def _disagreements(from_noise: tuple, size: tuple | None, pictures: int, count: int | None) -> list[str]:
    problems = []
    if size is not None and (not isinstance(size, Sequence) or tuple(size) != from_noise):
        problems.append(f"size: the noise is for {from_noise[0]}x{from_noise[1]}, got {short(size)}; leave size out")
    if count is not None and count != pictures:
        problems.append(f"count: the noise holds {pictures} pictures, got {short(count)}; leave count out")
    return problems


def check_size(decoder: Decoder, size: tuple[int, int]) -> None:
    """Raises InputError for a size, (height, width) in pixels, that the plan does not draw or that needs more memory
    than is free. Whoever draws noise of a size without a request asks here first."""
    if problems := _size_problems(size, decoder.size_multiple) or _memory_problems(size, 1):
        raise InputError(*problems)


def _memory_problems(size: tuple[int, int], count: Any) -> list[str]:
    """One line where the pictures alone, decoded and in bytes, need more memory than there is."""
    if not is_count(count, MOST_PICTURES):
        return []
    needed = BYTES_PER_PIXEL * count * size[0] * size[1]
    # Whoever draws little need not ask the system.
    if needed < SMALL_DRAWING_BYTES or (free := available_memory()) is None or needed <= free:
        return []
    asked = f"{count} picture{'s' * (count != 1)} of {size[0]}x{size[1]}, which need over {needed / 1e9:.1f} GB"
    return [
        f"size and count: expected what fits into {free / 1e9:.1f} GB of free memory, got {asked}; draw fewer or "
        "smaller pictures"
    ]


def _size_problems(size: tuple[int, int], multiple: int) -> list[str]:
    whole = (
        isinstance(size, Sequence)
        and len(size) == 2
        and all(isinstance(side, Integral) and not isinstance(side, bool) and side > 0 for side in size)
    )
    if whole and max(size) > MOST_PIXELS:
        return [f"size: expected at most {MOST_PIXELS} pixels a side, got {short(size)}; draw a smaller picture"]
    if whole and all(side % multiple == 0 for side in size):
        return []
    fix = ""
    if whole:
        near = [max(multiple, round(side / multiple) * multiple) for side in size]
        fix = f"; try {near[0]}x{near[1]}"
    return [f"size: expected (height, width) in multiples of {multiple} pixels, got {short(size)}{fix}"]


def _value_problems(prompt: str | None, values: Mapping[str, Any]) -> list[str]:
    problems = [
        f"{name}: expected text in Unicode, got {short(text)}"
        for name, text in (("prompt", "" if prompt is None else prompt), ("negative", values["negative"]))
        if not is_text(text)
    ]
    return problems + [found for option in SAMPLING_OPTIONS if (found := option.problem(values[option.name]))]
