"""What an input of a system is: the options by which a caller gives it, and what the runtime asks of it.

An input class is one record of the plan. Its options are the keys of a TypedDict beside it, each annotated with an
`Option`. The command line, the keywords of `Pipeline`, the gate's cases, calibration files, profiles, engines' shapes,
the documentation's table and a form's schema are made from these classes; `registry` lists them.
"""

import difflib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeGuard, get_args, get_type_hints

import numpy as np

from ..errors import one_line
from ..items.sequence import MixedSequence
from ..media.tokenizer import Tokenizer
from ..paint.gains import Painted

NamedTensors = dict[str, np.ndarray]
"""What graphs hand to one another: arrays by the names of slots."""
Shape = tuple[int, ...]
Form = Literal[
    "text", "number", "count", "flag", "choice", "size", "picture", "sound", "array", "weights", "item", "table"
]
"""How a value is given: as words, a number, a whole number, a switch, one of some words, HEIGHTxWIDTH, or a file. One
of weights is named within a text, which also says what it is for; an item is such a text that may name none. A table is
a JSON object, on the command line in a file."""
FLOAT_MOST = sys.float_info.max
MOST_VALUES = 64
"""Of an option that takes several."""
FILES: tuple[Form, ...] = ("picture", "sound", "array", "weights", "item")
"""What a command line names by a file."""
OWN_FILES_ONLY: tuple[Form, ...] = ("array", "weights", "item")
"""Files that no client of a server may bring."""
NAMED_IN_TEXT: tuple[Form, ...] = ("weights", "item")
"""Files that are named within a text."""
JSON_TYPES: dict[Form, Any] = {
    "text": str,
    "number": float,
    "count": int,
    "flag": bool,
    "choice": str,
    "size": tuple[int, int],
    "picture": str,
    "sound": str,
    "array": str,
    "weights": str,
    "item": str,
    "table": str,
}
"""What stands for a value in the gate's cases: a file is named there."""
SCHEMA_TYPES: dict[Form, dict[str, Any]] = {
    "text": {"type": "string"},
    "number": {"type": "number"},
    "count": {"type": "integer"},
    "flag": {"type": "boolean"},
    "choice": {"type": "string"},
    "size": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 2, "maxItems": 2},
    "picture": {"type": "string", "contentMediaType": "image/*"},
    "sound": {"type": "string", "contentMediaType": "audio/*"},
    "array": {"type": "string", "contentMediaType": "application/octet-stream"},
    "weights": {"type": "string"},
    "item": {"type": "string"},
    "table": {"type": ["object", "string"]},
}
"""JSON Schema's word for each form; files are uploaded."""


@dataclass(frozen=True, slots=True)
class Option:
    """One keyword of a run.

    `least` and `most` bound a number, both included; `choices` are the words of a choice. `several` takes a list as
    well as one value. `flag` is the spelling on the command line where it is not the name's. `stored` says whether the
    gate's cases and calibration files may hold it: what decides the number of pictures, or needs a second bundle, may
    not. `checked_by_input` leaves the value to its input, which knows bounds that depend on the plan. `locate` finds
    the file in a text that names more, None where it names none, `spelled` writes a value of Python's as such texts,
    and `absent` is what to do where a bundle does not take the option.
    """

    form: Form
    help: str
    default: Any = None
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    several: bool = False
    flag: str = ""
    stored: bool = True
    checked_by_input: bool = False
    locate: Callable[[str], Path | None] = Path
    spelled: Callable[[Any], Sequence[str]] | None = None
    absent: str = "leave it out"
    name: str = ""

    @property
    def is_file(self) -> bool:
        """Whether the command line names it by a file."""
        return self.form in FILES

    @property
    def spelling(self) -> str:
        """How the command line spells it, such as `--soft-mask`."""
        return self.flag or f"--{self.name.replace('_', '-')}"

    @property
    def json_type(self) -> Any:
        """The type that stands for a value in the gate's cases."""
        kind: Any = JSON_TYPES[self.form]
        return tuple.__class_getitem__((kind, ...)) if self.several else kind

    def is_default(self, value: Any) -> bool:
        """Whether a value says nothing; arrays are not compared value by value."""
        return value is self.default or (isinstance(value, str | Real) and bool(value == self.default))

    def problem(self, value: Any) -> str | None:
        """Why a value is not one of this option's, in one line; None where it is, or where it stands for the plan's.

        Pictures, sounds and arrays are looked at where they are opened.
        """
        absent = value is None and self.default is None
        if self.several and isinstance(value, list | tuple) and len(value) > MOST_VALUES:
            return f"{self.name}: expected at most {MOST_VALUES}, got {len(value)}; leave the others out"
        if absent or self.checked_by_input or self.is_file or self.form == "size":
            return None
        each = value if self.several and isinstance(value, list | tuple) else [value]
        judged = ((*self._judged(given), given) for given in each)
        return next((f"{self.name}: expected {said}, got {short(got)}" for fits, said, got in judged if not fits), None)

    def schema(self) -> dict[str, Any]:
        """The option as JSON Schema, for a form or a server."""
        value = dict(SCHEMA_TYPES[self.form])
        bounds = {"minimum": self.least, "maximum": self.most, "enum": list(self.choices) or None}
        stated = {key: bound for key, bound in bounds.items() if bound is not None}
        # A size's bounds are those of each side.
        value |= {"items": value["items"] | stated} if self.form == "size" else stated
        if self.several:
            value = {"type": "array", "items": value}
        return value | {"description": self.help} | ({} if self.default is None else {"default": self.default})

    def _judged(self, value: Any) -> tuple[bool, str]:
        if self.form == "flag":
            # Any text would count as true, "no" as well.
            return isinstance(value, bool | np.bool_), "True or False"
        if self.form == "choice":
            return isinstance(value, str) and value in self.choices, " or ".join(self.choices)
        if self.form == "text":
            return isinstance(value, str), "text"
        whole = self.form != "count" or isinstance(value, Integral)
        fits = whole and is_number(value) and self._bounded(value)
        return fits, f"a {'whole' if self.form == 'count' else 'finite'} number{self._bounds()}"

    def _bounded(self, value: Any) -> bool:
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def _bounds(self) -> str:
        least, most = (f"{bound:g}" if isinstance(bound, float) else str(bound) for bound in (self.least, self.most))
        if self.least is not None and self.most is not None:
            return f" from {least} to {most}"
        if self.least is not None:
            return f" >= {least}"
        return "" if self.most is None else f" <= {most}"


def is_same_size(given: Any, size: tuple[int, int]) -> bool:
    """Whether a caller's size, which may be anything, is this (height, width)."""
    whole = isinstance(given, Sequence) and len(given) == 2 and all(isinstance(side, Integral) for side in given)
    return whole and tuple(given) == size


def options_of(keywords: type) -> tuple[Option, ...]:
    """The options that a TypedDict declares, in its order: each annotation carries an `Option`, its key is the name."""
    hints = get_type_hints(keywords, include_extras=True)
    found = ((name, item) for name, hint in hints.items() for item in get_args(hint) if isinstance(item, Option))
    return tuple(replace(option, name=name) for name, option in found)


def unknown_options(given: Iterable[str], known: Iterable[str]) -> list[str]:
    """One line for each name that is no option, with the nearest that is."""
    names = list(known)
    return [
        f"{name}: expected an option of a run, got this name"
        + (f"; did you mean {near[0]}?" if (near := difflib.get_close_matches(name, names, 1)) else "")
        for name in given
        if name not in names
    ]


@dataclass(frozen=True, slots=True)
class CallContext:
    """One call as the inputs see it.

    `values` holds every option of a run, the defaults filled in. `tokenizer` is the prompt's, where a word or a marker
    stands in it, and `further` are those of the other encoders that read it; `rows` are the rows of the guidance;
    `mixes` says that a second bundle's context is mixed in; `preset_delay` is the share of the run that a preset's
    delayed segment waits for; `size` is (height, width) of what is drawn, in pixels, and `grid` in cells of latents or
    tokens; `count` are its pictures.
    """

    values: Mapping[str, Any]
    prompt: str | None
    tokenizer: Tokenizer | None
    rows: int
    steps: int
    mixes: bool = False
    preset_delay: float | None = None
    grid: tuple[int, int] = (1, 1)
    size: tuple[int, int] = (1, 1)
    count: int = 1
    further: tuple[Tokenizer, ...] = ()


@dataclass(slots=True)
class PreparedInputs:
    """What the inputs made of a call: slots of one row, or of one for each row of the guidance; notes and problems,
    one line each.

    Where markers stand in the prompt, `unmarked_prompt` is the text without them, `marked_ids`, int64 [window], are the
    ids that the marking conditioner reads, and `marked` is the number of subjects. A delayed segment waits until the
    UNet call number `delay_until_call`, counted from 0. `size` is (height, width) in pixels of a picture that is drawn
    over, and takes the place of the call's; `start_strength` is the share of the steps that redraw it, None for all of
    them from noise. `sequences` are the mixed texts and pictures of each row of the guidance. `tokenizer` is the
    prompt's with the words that the call brings, None where it brings none; `windows` are those that the longer of
    prompt and negative prompt fills. `lora` has the factors by the graphs whose variants take them: they are the
    run's, without a row for each picture. `negative` stands in the negative prompt's place, None where it stays.
    `paint` says which graph's variant takes painted words, and how strongly they count.
    """

    slots: NamedTensors = field(default_factory=dict)
    unmarked_prompt: str | None = None
    marked_ids: np.ndarray | None = None
    marked: int | None = None
    delay_until_call: float = 0.0
    size: tuple[int, int] | None = None
    tokenizer: Tokenizer | None = None
    windows: int = 1
    start_strength: float | None = None
    sequences: tuple[MixedSequence, ...] = ()
    lora: dict[str, NamedTensors] = field(default_factory=dict)
    negative: str | None = None
    paint: Painted | None = None
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class CallShape:
    """One call in numbers: `size` is (height, width) in pixels, `rows` are those of the guidance, `pictures` those of
    subjects, `words` a subject's embeddings, `channels` a sound's, `windows` the prompt's, `learned` the vectors of
    learned words, `positions` those of texts and pictures in one sequence."""

    size: tuple[int, int]
    count: int
    rows: int
    pictures: int = 1
    words: int = 1
    channels: int = 2
    windows: int = 1
    learned: int = 1
    positions: int = 1


class Input(Protocol):
    """What a plan takes from the caller.

    `KEY` is its place in a manifest's conditioner, `OPTIONS` what belongs to it on the command line and in Python.
    """

    KEY: ClassVar[str]
    OPTIONS: ClassVar[tuple[Option, ...]]

    def slots(self) -> tuple[str, ...]:
        """The names of the slots that it fills."""

    def describe(self) -> str:
        """What it takes, in words, as `x2i inspect` shows it."""

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        """Fills its slots; problems are added to `made`, or raised as InputError."""

    def stand_in(self) -> dict[str, Any]:
        """Options that stand for a caller's where only shapes and times count."""

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        """The shapes of its slots in a call; `known` are those of the slots filled before."""


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it is a finite number. It is compared, not converted: a whole number may be too large for a float."""
    return isinstance(value, Real) and not isinstance(value, bool) and -FLOAT_MOST <= value <= FLOAT_MOST  # type: ignore[operator]


def is_count(value: Any, most: int) -> bool:
    """Whether it is a whole number from 1 to `most`."""
    return isinstance(value, Integral) and not isinstance(value, bool) and 1 <= int(value) <= most


def is_index(value: Any, count: int) -> bool:
    """Whether it is a whole number from 0 on, below `count`."""
    return isinstance(value, Integral) and not isinstance(value, bool) and 0 <= int(value) < count


def short(value: Any) -> str:
    """How a value is shown in a message, whatever it is."""
    try:
        return one_line(repr(value), 60)
    except (RecursionError, ValueError):
        # What is nested too deeply, and a whole number of thousands of digits, has no text.
        return f"a value of {type(value).__name__} that cannot be shown"
