"""`make docs`: writes docs/api.md from the docstrings and options of `x2i.runtime`; a test holds it up to date."""

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType

import click
from x2i import runtime
from x2i.runtime.commands.run import run

PAGE = Path(__file__).with_name("api.md")
WIDTH = 118
HEAD = """# Python API

*`make docs` writes this page from the docstrings; do not edit it.*

`x2i.runtime` is what a program needs to draw. Everything else is internal and may move.
"""
OF_LOAD = ("backend", "threads", "max_memory", "text_bundle", "preset")
"""Options of the command line that `load` takes; `preset` is a keyword of calls as well."""
OF_COMMAND = ("out", "save_latents", "as_json")
"""Options that the command alone has."""


def page() -> str:
    """The whole page, as Markdown."""
    parts = [HEAD, *_function("load", runtime.load, "##")]
    for kind in (runtime.Pipeline, runtime.Output, runtime.Step, runtime.InputError):
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
    """Every option of `x2i run`, under the function that takes it."""
    yield "## Options\n"
    yield "The keywords of `Pipeline.__call__` and `Pipeline.steps`, each with its option of `x2i run`.\n"
    yield from _listed(lambda name: name not in (*OF_LOAD[:-1], *OF_COMMAND))
    yield "\nKeywords of `load`:\n"
    yield from _listed(lambda name: name in OF_LOAD)
    yield "\nOptions of `x2i run` alone:\n"
    yield from _listed(lambda name: name in OF_COMMAND)


def _listed(wanted: Callable[[str], bool]) -> Iterator[str]:
    for option in run.params:
        if isinstance(option, click.Option) and not option.hidden and wanted(option.name or ""):
            default = option.default if option.show_default else None
            told = f"`{option.name}` (`{option.opts[0]}`): {option.help}"
            told += "" if default is None or option.is_flag else f" {default} if left out."
            yield textwrap.fill(told, WIDTH, initial_indent="* ", subsequent_indent="  ", break_on_hyphens=False)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
