"""All inputs of all systems, and what is made from their options. A new input is entered here, and nowhere else."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ..errors import InputError
from ..token_samplers.registry import TOKEN_SAMPLERS, TokenSamplerOptions
from .class_label import ClassInput, ClassOptions
from .dance import DanceInput, DanceOptions
from .delay import Delay, DelayOptions
from .layout.boxes import LayoutInput, LayoutOptions
from .lora import LoraInput, LoraOptions
from .micro import MicroConditions, MicroOptions
from .option import CallContext, Input, Option, PreparedInputs
from .paint import PaintInput, PaintOptions
from .pictures.image import ImageInput, SeenImageInput
from .pictures.options import ImageOptions, MaskOptions, StrengthOptions
from .pictures.start import StartInput, StartOptions
from .pictures.start_picture import StartPicture, StartPictureOptions
from .pictures.style import StyleInput, StyleOptions
from .pictures.subject import SubjectInput, SubjectOptions
from .pictures.subjects import SubjectsInput, SubjectsOptions
from .pictures.variation import VariationInput, VariationOptions
from .sampling import SAMPLING_OPTIONS, LatentsOptions, SamplingOptions
from .sound import MixInput, MixOptions, SoundInput, SoundOptions, SoundStart
from .stages import PriorOptions, PriorStage, SuperResolutionOptions, SuperResolutionStage
from .strength import Injection
from .text.contexts import ContextsInput, ContextsOptions
from .text.items import ItemsInput, ItemsOptions
from .text.learned import EmbeddingOptions, LearnedInput
from .text.marker import MarkerInput, MarkerOptions
from .text.prompt import PromptOptions, TextInput
from .text.windows import WindowsInput, WindowsOptions
from .text.word import WordInput, WordOptions

CONDITIONER_INPUTS: list[type[Input]] = [
    TextInput,
    LearnedInput,
    WindowsInput,
    ClassInput,
    SubjectInput,
    ImageInput,
    SeenImageInput,
    WordInput,
    SubjectsInput,
    MarkerInput,
    SoundInput,
    MixInput,
    StartInput,
    StartPicture,
    MicroConditions,
    DanceInput,
    SoundStart,
    VariationInput,
    StyleInput,
    ContextsInput,
    LayoutInput,
    ItemsInput,
]
"""What a conditioner may take, in the order in which a manifest writes them."""
PLAN_INPUTS: list[type[Input]] = [
    Injection,
    Delay,
    LoraInput,
    PaintInput,
    PriorStage,
    SuperResolutionStage,
    *TOKEN_SAMPLERS,
]
"""What belongs to the loop."""


class RunOptions(
    PromptOptions,
    EmbeddingOptions,
    WindowsOptions,
    SamplingOptions,
    LatentsOptions,
    ClassOptions,
    SubjectOptions,
    MaskOptions,
    ImageOptions,
    WordOptions,
    StrengthOptions,
    SubjectsOptions,
    MarkerOptions,
    DelayOptions,
    SoundOptions,
    MixOptions,
    DanceOptions,
    TokenSamplerOptions,
    StartOptions,
    StartPictureOptions,
    MicroOptions,
    LoraOptions,
    PaintOptions,
    VariationOptions,
    LayoutOptions,
    PriorOptions,
    SuperResolutionOptions,
    StyleOptions,
    ContextsOptions,
    ItemsOptions,
    total=False,
):
    """The keywords of a run beside its prompt, for editors and type checkers."""


def run_options() -> dict[str, Option]:
    """Every option of a run by its name, in the order in which people read them."""
    listed = [*TextInput.OPTIONS, *SAMPLING_OPTIONS]
    listed += [option for kind in (*CONDITIONER_INPUTS, *PLAN_INPUTS) for option in kind.OPTIONS]
    return {option.name: option for option in listed}


def input_types() -> dict[str, Any]:
    """The record types that may stand under each key of a manifest's conditioner."""
    found: dict[str, Any] = {}
    for kind in CONDITIONER_INPUTS:
        found[kind.KEY] = found[kind.KEY] | kind if kind.KEY in found else kind
    return found


def input_options() -> set[str]:
    """The names of those options that only some plans take. Every plan may be sampled in any way."""
    everywhere = {option.name for option in (*TextInput.OPTIONS, *SAMPLING_OPTIONS)}
    return run_options().keys() - everywhere


def option_names(inputs: Iterable[Input]) -> set[str]:
    """The names of the options that belong to these inputs."""
    return {option.name for each in inputs for option in each.OPTIONS}


def prepare_inputs(inputs: Iterable[Input], call: CallContext) -> PreparedInputs:
    """What a plan's inputs make of a call, with every problem: options that the plan does not take, values of a wrong
    kind, and what the inputs themselves refuse."""
    inputs, options, made = list(inputs), run_options(), PreparedInputs()
    taken = option_names(inputs)
    own, values = input_options(), dict(call.values)
    for name in (name for name in options if name in own):
        if name not in taken and not options[name].is_default(values[name]):
            made.problems.append(f"{name}: this bundle takes none; {options[name].absent}")
        elif (problem := options[name].problem(values[name])) is not None:
            made.problems.append(problem)
            # The inputs go on with what is right, and tell their own problems with these.
            values[name] = options[name].default
    call = replace(call, values=values)
    for each in inputs:
        try:
            each.prepare(call, made)
        except InputError as error:
            made.problems += error.problems
    made.problems, made.notes = list(dict.fromkeys(made.problems)), list(dict.fromkeys(made.notes))
    return made


def input_stand_ins(inputs: Iterable[Input]) -> dict[str, Any]:
    """A run's options, the prompt among them, that stand for a caller's where only shapes and times count."""
    found: dict[str, Any] = {}
    for each in inputs:
        found |= each.stand_in()
    return found


def options_table() -> list[tuple[str, str, str, str]]:
    """Name, command line's spelling, default and help of every option, for the documentation."""
    return [
        (name, option.spelling, "" if option.default in (None, "", False) else str(option.default), option.help)
        for name, option in run_options().items()
    ]


def filled_in(given: Mapping[str, Any]) -> dict[str, Any]:
    """Every option's value: the caller's, or its default."""
    return {name: given.get(name, option.default) for name, option in run_options().items()}
