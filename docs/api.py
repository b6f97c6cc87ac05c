"""`make docs`: writes docs/api.md from the docstrings and options of `x2i.runtime`; a test holds it up to date."""

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType

import click
from x2i import runtime
from x2i.runtime.commands.run import run
from x2i.runtime.inputs.option import Form, Option
from x2i.runtime.inputs.registry import run_options

PAGE = Path(__file__).with_name("api.md")
WIDTH = 118
HEAD = """# Python API

*`make docs` writes this page from the docstrings; do not edit it.*

`x2i.runtime` is what a program needs to draw. Everything else is internal and may move.
"""
OF_LOAD = ("backend", "threads", "max_memory", "text_bundle")
"""Options of the command line that `load` takes."""
WORDS: dict[Form, str] = {
    "text": "text",
    "number": "number",
    "count": "whole number",
    "flag": "True or False",
    "choice": "one of",
    "size": "(height, width)",
    "picture": "picture: file, PIL image or uint8 array",
    "sound": "sound: file, or (samples, rate)",
    "array": "array",
    "weights": "NAME=FILE or FILE:WEIGHT as text, or in Python files by name or with a number",
    "item": "a text or a picture's file with its weight, or (kind, content, weight)",
    "table": "table: JSON in a file, or in Python a dict or its JSON",
}


def page() -> str:
    """The whole page, as Markdown."""
    parts = [HEAD, *_function("load", runtime.load, "##")]
    parts += _function("read_parameters", runtime.read_parameters, "##")
    for kind in (runtime.Pipeline, runtime.Output, runtime.Parameters, runtime.Step, runtime.InputError):
        parts += [f"## {kind.__name__}\n", _doc(kind)]
        if dataclasses.is_dataclass(kind):
            parts.append(_fields(kind))
        for name, value in vars(kind).items():
            if isinstance(value, FunctionType) and (name == "__call__" or not name.startswith("_")):
                parts += _function(f"{kind.__name__}.{name}", value, "###")
    return "\n".join([*parts, *_options()]).rstrip() + "\n"


def _function(title: str, function: FunctionType, level: str) -> Iterator[str]:
    """Heading, signature as it stands in the source, and docstring."""
    yield f"{level} {title}\n"
    yield f"```python\n{_signature(function)}\n```\n"
    yield _doc(function)


def _signature(function: FunctionType) -> str:
    source = textwrap.dedent(inspect.getsource(function))
    (node,) = ast.parse(source).body
    assert isinstance(node, ast.FunctionDef)
    lines = source.splitlines()[node.lineno - 1 : node.body[0].lineno - 1]
    return "\n".join(lines).rstrip().removesuffix(":")


def _doc(thing: object) -> str:
    text = inspect.getdoc(thing)
    assert text, f"{thing} has no docstring"
    return text + "\n"


def _fields(kind: type) -> str:
    rows = [f"| `{field.name}` | `{inspect.formatannotation(field.type)}` |" for field in dataclasses.fields(kind)]
    return "\n".join(["| field | type |", "|---|---|", *(row.replace(" | None", " \\| None") for row in rows), ""])


def _options() -> Iterator[str]:
    """Every option of a run, from its record; then what the command line takes beside them."""
    yield "## Options\n"
    yield "The keywords of `Pipeline.__call__` and `Pipeline.steps`, each with its option of `x2i run`.\n"
    for name, option in run_options().items():
        kind = WORDS[option.form] + _limits(option) + (", or a list of them" if option.several else "")
        default = "" if option.default in (None, "") or option.default is False else f" {option.default} if left out."
        yield _item(f"**`{name}`** (`{option.spelling}`), {kind}. {option.help}{default}")
    beside = [one for one in run.params if isinstance(one, click.Option) and one.name not in run_options()]
    yield "\nKeywords of `load`, and `preset`, which it takes as well:\n"
    yield from (_command_item(option) for option in beside if option.name in OF_LOAD)
    yield "\nOptions of `x2i run` alone:\n"
    yield from (_command_item(option) for option in beside if option.name not in OF_LOAD and not option.hidden)


def _limits(option: Option) -> str:
    if option.choices:
        return " " + ", ".join(f"`{choice}`" for choice in option.choices)
    bounds = [(option.least, "at least"), (option.most, "at most")]
    told = [f"{word} {bound:g}" for bound, word in bounds if bound is not None]
    return f", {', '.join(told)}" if told else ""


def _command_item(option: click.Option) -> str:
    default = f" {option.default} if left out." if option.show_default else ""
    return _item(f"**`{option.name}`** (`{option.opts[0]}`). {option.help}{default}")


def _item(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="* ", subsequent_indent="  ", break_on_hyphens=False)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
