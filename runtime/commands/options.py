"""Options that several commands share. Those of a run are made from the records of `inputs`."""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from ..errors import InputError
from ..files.reading import parse_json, read_array, read_arrays, read_text
from ..inputs.option import Form, Option
from ..inputs.registry import run_options
from ..sessions.session import ATTENTIONS, MOST_THREADS


class Size(click.ParamType):
    """HEIGHTxWIDTH in pixels."""

    name = "HxW"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> tuple[int, int]:
        match = re.fullmatch(r"([0-9]{1,9})x([0-9]{1,9})", value)
        if match is None:
            self.fail(f"expected HEIGHTxWIDTH in pixels such as 512x768, got {value!r}", parameter, context)
        return int(match[1]), int(match[2])


FILE = click.Path(path_type=Path)
TYPES: dict[Form, Any] = {
    "text": str,
    "number": float,
    "count": int,
    "size": Size(),
    "picture": FILE,
    "sound": FILE,
    "array": FILE,
    "weights": str,
    "item": str,
    "table": FILE,
}
"""What the command line makes of the words behind an option; flags have none, and choices their own."""
TABLE_BYTES = 1_000_000
"""What a file of a table may have."""
text_bundle_option = click.option(
    "--text-bundle", type=FILE, help="Bundle of the same base that reads PROMPT, to mix with the sound."
)
backend_option = click.option(
    "--backend", help="What runs the graphs, such as cpu, openvino:GPU or webgpu; the best present if left out."
)
threads_option = click.option(
    "--threads", type=click.IntRange(1, MOST_THREADS), help="CPU threads; all cores if left out."
)

attention_option = click.option(
    "--attention",
    type=click.Choice(ATTENTIONS),
    help="On the CPU: the kernel where it is faster and as precise, OpenVINO's own, or the kernel in bf16 or int8.",
)
rest_on_cpu_option = click.option(
    "--rest-on-cpu", is_flag=True, help="With webgpu and ep:NAME: let the CPU run what they do not take of a graph."
)


def run_keywords(without: Collection[str] = ()) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that adds the options of a run to a command, all but those named.

    Options that are spelled alike are one on the command line: which of them is meant, the bundle decides (see
    `given_keywords`). The command gets each under the name of the first.
    """

    def decorated(command: Callable[..., Any]) -> Callable[..., Any]:
        for group in reversed(_groups().values()):
            if group[0].name not in without:
                command = _click_option(group)(command)
        return command

    return decorated


def given_keywords(taken: Collection[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """What the caller gave, as keywords of a Pipeline, for a plan that takes the options `taken`.

    `values` are the command's, as `run_keywords` names them. Raises InputError for several values of an option that
    takes one, and for an array that cannot be read.
    """
    found: dict[str, Any] = {}
    for group in _groups().values():
        value = values.get(group[0].name)
        option = _meant(group, taken, value)
        if _is_mixed(group):
            value = _of_form(option, value)
        if isinstance(value, tuple) and any(each.several for each in group):
            value = _one_or_all(option, value)
        if option.form == "array" and value is not None:
            value = _read(value, f"{option.spelling} {value}")
        if option.form == "table" and value is not None:
            value = _read_table(Path(value), f"{option.spelling} {value}")
        if value is not None and not option.is_default(value):
            found[option.name] = value
    return found


def named_options(taken: Collection[str], context: click.Context) -> set[str]:
    """The options of a run that the caller named, even where the value says nothing, as `--seed 0` does; `taken` is as
    for `given_keywords`."""
    return {
        next((each for each in group if each.name in taken), group[0]).name
        for group in _groups().values()
        if context.get_parameter_source(group[0].name) not in (None, ParameterSource.DEFAULT)
    }


def _meant(group: list[Option], taken: Collection[str], value: Any) -> Option:
    """Which of the options that are spelled alike a value is for: the first that it may be of and that the plan takes:
    numbers stand for no file."""
    numbers = isinstance(value, str) and re.fullmatch(r"[-+]?[0-9.]+", value) is not None
    fitting = [each for each in group if each.is_default(value) or (each.form in ("number", "count")) == numbers]
    # A bundle without painted words says what its number must be; one without numbers, that it takes none.
    others = fitting if numbers else [*(each for each in group if each.name in taken), *fitting]
    return next((each for each in fitting if each.name in taken), (others or group)[0])


def _is_mixed(group: list[Option]) -> bool:
    """Whether options that are spelled alike take values of different kinds."""
    return len({option.form for option in group}) > 1


def _of_form(option: Option, value: Any) -> Any:
    """A text as the value that it stands for. Raises InputError."""
    if option.form not in ("number", "count") or not isinstance(value, str):
        return value
    kind: type = int if option.form == "count" else float
    try:
        return kind(value)
    except ValueError as error:
        said = "a whole number" if option.form == "count" else "a number"
        raise InputError(f"{option.name}: expected {said}, got {value!r:.60}; correct it") from error


def _read_table(path: Path, where: str) -> Any:
    return parse_json(read_text(path, where, "a JSON file", TABLE_BYTES), where)


def _read(path: Path, where: str) -> Any:
    """One array, or of an .npz file all by their names."""
    if path.suffix == ".npz":
        return read_arrays(path, "an .npz file of float32 numbers", where)
    return read_array(path, "a .npy file of float32 numbers", where)


def input_files(values: Mapping[str, Any]) -> list[Path]:
    """The files among a command's values, as `run_keywords` names them."""
    given = ((group[0], values.get(group[0].name)) for group in _groups().values() if group[0].is_file)
    found = [
        option.locate(path)
        for option, value in given
        if value
        for path in (value if isinstance(value, tuple | list) else [value])
    ]
    return [path for path in found if path is not None]


def _groups() -> dict[str, list[Option]]:
    """The options of a run by their spelling."""
    groups: defaultdict[str, list[Option]] = defaultdict(list)
    for option in run_options().values():
        groups[option.spelling].append(option)
    return groups


def _click_option(group: list[Option]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    first, text = group[0], " Or: ".join(option.help for option in group)
    if first.form == "flag":
        return click.option(first.spelling, first.name, is_flag=True, help=text)
    kind = click.Choice(first.choices) if first.form == "choice" else TYPES[first.form]
    mixed = _is_mixed(group)
    if mixed:
        # Which of them is meant, and so what it must be, its value says.
        kind = str
    several = any(option.several for option in group)
    shown = first.default not in (None, "")
    default = {} if several or mixed else {"default": first.default, "show_default": shown}
    return click.option(first.spelling, first.name, type=kind, multiple=several, help=text, **default)


def _one_or_all(option: Option, values: tuple[Any, ...]) -> Any:
    if option.several:
        return list(values) or None
    if len(values) > 1:
        raise InputError(f"{option.name}: expected one picture at most, got {len(values)}; leave the others out")
    return values[0] if values else None
