"""One call's options, checked against the plan; every problem is told at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

from .bundle.calls import matches
from .bundle.manifest import Manifest
from .bundle.plan import Plan, Process
from .bundle.preset import Preset
from .errors import InputError, UnknownOptionError
from .inputs.lora import lora_variant
from .inputs.option import CallContext, PreparedInputs, is_count, is_number, short, unknown_options
from .inputs.registry import RunOptions, filled_in, prepare_inputs, run_options
from .inputs.sampling import LATENTS_OPTIONS, MOST_PICTURES, MOST_STEPS, SAMPLING_OPTIONS
from .inputs.sound import MixInput
from .inputs.stages import stage_value
from .inputs.text.items import ItemsInput
from .inputs.text.prompt import TextInput
from .media.tokenizer import Tokenizer, is_text
from .paint.gains import paint_variant
from .processes.recorded_noise import RecordedNoise, drawn_shape, noise_count
from .samplers.sampler import Sampler
from .samplers.settings import SamplerSettings


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller asks for, defaults filled in.

    `values` holds every option by its name as the caller gave it; `choices` completes the names of graphs that stand
    for a choice, such as `language`. Of `prompts` drawn at once `prompt` is the first, and `count` are the pictures of
    all. `size` is (height, width) in pixels; `noise` is None, or float32 [count, C, h, w] for latents, or the draws by
    their names. `sampler` is that of latents, and `first_step` the one that a start is noised for, None from pure
    noise. `inputs` is what pictures, sound,
    word and strength fill before the first graph. `preset_name` is None for the plain loop. `rows` are those of the
    guidance. With `split_cfg_batch` the network is called for one side of the guidance after the other.
    """

    prompt: str | None
    values: Mapping[str, Any]
    choices: dict[str, str]
    sampler: Sampler | None
    guidance: float
    rows: int
    seed: int
    noise: RecordedNoise | None
    size: tuple[int, int]
    count: int
    inputs: PreparedInputs
    preset: Preset
    preset_name: str | None
    notes: tuple[str, ...]
    first_step: int | None = None
    split_cfg_batch: bool = False
    prompts: int = 1

    def guidance_of(self, plan: Plan, process: Process) -> float:
        """The scale at which a process is guided: the call's for every level, a stage's option, or the plan's."""
        scale: float = self.guidance if plan.is_level(process) else _stage_scale(process, self.values)
        return scale

    @property
    def negative(self) -> str:
        """What is read on the side that is steered away from."""
        return str(self.values["negative"]) if self.inputs.negative is None else self.inputs.negative

    @property
    def steps(self) -> int | None:
        """How many steps its sampler makes; None for tokens."""
        return None if self.sampler is None else len(self.sampler.timesteps) - (self.first_step or 0)

    @property
    def calls(self) -> int | None:
        """How often its sampler calls the network; None for tokens."""
        skipped = self.first_step or 0
        return None if self.sampler is None else self.sampler.calls - skipped * self.sampler.calls_a_step

    def serving(self, graph: str) -> str:
        """The graph that serves in this run: the variant with a LoRA's inputs where it changes one of the layers, or
        the one that takes painted words."""
        if self.inputs.paint is not None and graph in self.inputs.paint.graphs:
            return paint_variant(graph)
        return lora_variant(graph) if graph in self.inputs.lora else graph


def options_of_prompts(plan: Plan, prompts: Sequence[Any], options: RunOptions) -> list[RunOptions]:
    """The options of the request of each prompt, as they are with its own negative prompt and the count of all.

    Raises InputError for none or too many, for negative prompts that are neither one nor as many, and for a plan that
    draws one prompt at a time.
    """
    negative, noise, count = options.get("negative", ""), options.get("noise"), options.get("count")
    given, problems = len(prompts), list[str]()
    if not plan.walks_latents or plan.find(TextInput) is None:
        problems.append(f"prompt: this bundle draws one prompt at a time, if any, got {given}; give one")
    if not 1 <= given <= MOST_PICTURES:
        problems.append(f"prompt: expected 1 to {MOST_PICTURES} prompts, got {given}; draw the others by another call")
    each = list(negative) if isinstance(negative, list | tuple) else [negative] * given
    if len(each) != given:
        problems.append(f"negative: expected one text, or one for each of {given} prompts, got {len(each)}")
    drawn = noise_count(noise)
    if drawn is not None and given and (drawn % given or (count is not None and count * given != drawn)):
        problems.append(f"noise: expected as many for each of {given} prompts, got {drawn} in all; draw it again")
    if problems:
        raise InputError(*problems)
    made = []
    for text in each:
        own: RunOptions = {**options, "negative": text}
        if drawn is None and (count is None or is_count(count, MOST_PICTURES)):
            own["count"] = given * (count or 1)
        elif drawn is not None:
            own.pop("count", None)
        made.append(own)
    return made


def make_request(
    manifest: Manifest,
    prompt: str | None = None,
    tokenizers: Sequence[Tokenizer] = (),
    mixes: bool = False,
    /,
    **given: Unpack[RunOptions],
) -> Request:
    """Fills in the plan's defaults and raises InputError with one line per problem; where keywords are no options,
    UnknownOptionError.

    `tokenizers` are the prompt's, for a plan whose inputs look into it: first the one by which a word or marker stands
    in it. `mixes` says that another bundle's context is mixed in.
    """
    plan, values = manifest.plan, filled_in(given)
    process, canvas = plan.main, plan.process.canvas
    unknown = unknown_options(given, run_options())
    problems = unknown + preset_problems(plan, values["preset"])
    preset = Preset() if problems or values["preset"] is None else plan.presets[values["preset"]]
    values["steps"] = preset.steps if values["steps"] is None else values["steps"]
    choices, found = _choose(manifest, {"language": values["language"]})
    noise, size, count, misshapen = drawn_shape(plan, values["noise"], values["size"], values["count"])
    problems += found + _prompt_problems(plan, prompt, values["negative"]) + misshapen
    guidance = usual_guidance(plan, preset) if values["guidance"] is None else values["guidance"]
    problems += _value_problems(prompt, values | {"guidance": guidance, "count": count})
    steps = process.steps if values["steps"] is None else values["steps"]
    rows = max([_rows(process, guidance), *(_stage_rows(each, values) for each in plan.processes)])
    problems += process.guidance.problems(guidance) if is_number(guidance) else []
    made = prepare_inputs(
        plan.inputs(),
        CallContext(
            _readable(values, noise, bool(misshapen)),
            prompt,
            next(iter(tokenizers), None),
            rows,
            steps,
            mixes,
            preset.delay,
            canvas.cells(size),
            size,
            count,
            tuple(tokenizers[1:]),
        ),
    )
    problems += made.problems + _variant_problems(plan, preset, values["preset"], made)
    if made.size is not None:
        size = made.size
        problems += canvas.problems(size) or canvas.memory_problems(size, count)
    sampler = first_step = None
    try:
        sampler = _sampler(plan, preset.sampler if values["sampler"] is None else values["sampler"], steps, values)
        first_step = _first_step(sampler, made)
        _check_stages(plan, values)
    except InputError as error:
        problems += error.problems
    if problems:
        raise UnknownOptionError(*problems) if unknown else InputError(*problems)
    notes = (*made.notes, *_delay_notes(plan, made, sampler), *process.guidance.notes(guidance))
    if sampler is not None:
        # A delay is a place in the whole run, of which the calls before the first step are left out.
        made.delay_until_call -= (first_step or 0) * sampler.calls_a_step
    text = plan.find(TextInput)
    return Request(
        prompt="" if prompt is None and text is not None and text.blank else prompt,
        values=values,
        choices=choices,
        sampler=sampler,
        guidance=guidance,
        rows=rows,
        seed=values["seed"],
        noise=noise,
        size=size,
        count=count,
        inputs=made,
        preset=preset,
        preset_name=values["preset"],
        notes=notes,
        first_step=first_step,
    )


def _variant_problems(plan: Plan, preset: Preset, name: str | None, made: PreparedInputs) -> list[str]:
    """One line for a preset that calls graphs which take no LoRA, or no painted words, where some are given."""
    found = []
    others = [v.name for graph in plan.denoisers() if graph in made.lora for v in preset.variants(graph)]
    if not set(others) <= made.lora.keys():
        fix = "leave the preset out, or fold it at export"
        found.append(f"lora: the preset {name} calls {others[-1]}, which takes none; {fix}")
    painted = made.paint
    graphs = () if painted is None else painted.graphs
    others = [v.name for graph in sorted(graphs) for v in preset.variants(graph) if v.name != graph]
    if others:
        found.append(f"paint: the preset {name} calls {others[-1]}, which takes no painted words; leave the preset out")
    return found


def _readable(values: Mapping[str, Any], noise: RecordedNoise | None, misshapen: bool) -> dict[str, Any]:
    """The options with defaults for those whose problems are told already: the inputs go on with what is right."""
    wrong = {option.name: option.default for option in SAMPLING_OPTIONS if option.problem(values[option.name])}
    return {**values, **wrong, "noise": None if misshapen else noise}


def _rows(process: Process, scale: Any) -> int:
    """Rows of a process's guidance; of a scale that is no number nothing can be counted."""
    return process.guidance.rows(scale) if is_number(scale) else 2


def _stage_rows(process: Process, values: Mapping[str, Any]) -> int:
    """Rows of the guidance of a process with options of its own; 1 of any other."""
    return 1 if process.stage is None else _rows(process, _stage_scale(process, values))


def _stage_scale(process: Process, values: Mapping[str, Any]) -> Any:
    """The scale of a process beside the main one: that of its own option, or the plan's."""
    given = stage_value(process.stage, values, "guidance")
    return process.guidance.scale if given is None else given


def _check_stages(plan: Plan, values: Mapping[str, Any]) -> None:
    """Raises InputError for steps that stages beside the main process cannot make, each under its option's name; what
    is no count is told with the other options."""
    problems = list[str]()
    for process in plan.processes:
        options = () if process.stage is None else process.stage.OPTIONS
        if plan.is_level(process) or any(option.problem(values[option.name]) for option in options):
            continue
        try:
            process.stage_sampler(values)
        except InputError as error:
            own = "" if process.stage is None else f"{process.stage.kind}_"
            problems += [f"{own}{problem}" if problem.startswith("steps:") else problem for problem in error.problems]
    if problems:
        raise InputError(*problems)


def usual_guidance(plan: Plan, preset: Preset) -> float:
    """The scale where the caller names none."""
    return plan.main.guidance.scale if preset.guidance is None else preset.guidance


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


def _sampler(plan: Plan, name: Any, steps: Any, values: Mapping[str, Any]) -> Sampler | None:
    """The sampler asked for, None where tokens are walked; raises InputError, also for what only Python can give:
    values of another type."""
    if not plan.walks_latents:
        lost = [option.name for option in LATENTS_OPTIONS if values[option.name] is not None]
        problems = [f"{one}: this bundle draws tokens, and takes none; leave it out" for one in lost]
        if problems:
            raise InputError(*problems)
        return None
    if not isinstance(name, str | None):
        raise InputError(f"sampler: expected the name of one, got {short(name)}")
    if not is_number(steps) or steps > MOST_STEPS:
        raise InputError(f"steps: expected a whole number from 1 to {MOST_STEPS}, got {short(steps)}")
    if any(option.problem(values[option.name]) for option in SAMPLING_OPTIONS if option.form == "choice"):
        # They are told with the other values; nothing can be compared with some, such as arrays.
        raise InputError
    step_count: Any = steps
    process = plan.latents
    return process.sampler.make(process.schedule, name, step_count, SamplerSettings.from_options(values))


def _first_step(sampler: Sampler | None, made: PreparedInputs) -> int | None:
    """The step that a start is noised for, None where there is none; raises InputError where no step is left."""
    if sampler is None or made.start_strength is None:
        return None
    return sampler.first_step(made.start_strength)


def _delay_notes(plan: Plan, made: PreparedInputs, sampler: Sampler | None) -> tuple[str, ...]:
    """A delay past the last call is as the authors have it, but hardly what anyone wants who marked a subject."""
    if plan.delay is None or sampler is None or made.marked == 0 or made.delay_until_call < sampler.calls - 1:
        return ()
    return (
        f"delay: all {sampler.calls} UNet calls see the text alone, and none the subjects; raise alpha (--delay) or "
        "lower start_merge_step",
    )


def _prompt_problems(plan: Plan, prompt: str | None, negative: Any) -> list[str]:
    """A plan with a text input needs a prompt, one of items says itself what it needs, and any other takes neither
    prompt nor negative."""
    if plan.find(ItemsInput) is not None:
        return []
    if (text := plan.find(TextInput)) is not None:
        needed = prompt is None and not text.optional and not text.blank
        return ["prompt: expected text, got none; say what to draw"] if needed else []
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


def _value_problems(prompt: str | None, values: Mapping[str, Any]) -> list[str]:
    problems = [
        f"{name}: expected text in Unicode, got {short(text)}"
        for name, text in (("prompt", "" if prompt is None else prompt), ("negative", values["negative"]))
        if not is_text(text)
    ]
    return problems + [found for option in SAMPLING_OPTIONS if (found := option.problem(values[option.name]))]
