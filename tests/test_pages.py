"""Pages that are made from the sources, or quote them: docs/api.md, docs/troubleshooting.md, CONTRIBUTING.md."""

import ast
import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ROOMS = ("runtime", "export", "models", "kernels")


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("api_page", DOCS / "api.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_api_page_is_up_to_date() -> None:
    assert (DOCS / "api.md").read_text("utf-8") == _generator().page(), "run `make docs`"


def _quoted() -> list[str]:
    headings = re.findall(r"^### (`+) ?(.+?) ?\1$", (DOCS / "troubleshooting.md").read_text("utf-8"), re.MULTILINE)
    return [text for _, text in headings]


@cache
def _messages() -> tuple[str, ...]:
    """Every text of the product's sources, with … for what is filled in."""
    files = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
    return tuple(text for path in files for text in _texts(ast.parse(path.read_text("utf-8"))))


def _texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)


def _is_told(message: str) -> bool:
    """Whether a text of the sources begins, ends or goes on as the quoted one does, with anything for each …"""
    pattern = re.compile(".*".join(re.escape(part) for part in message.split("…")), re.DOTALL)
    return any(pattern.search(text) for text in _messages())


def test_there_are_messages_to_look_up() -> None:
    assert len(_quoted()) >= 20


@pytest.mark.parametrize("message", _quoted())
def test_a_message_of_the_troubleshooting_page_is_one_of_the_sources(message: str) -> None:
    assert _is_told(message)


def test_a_message_that_nobody_tells_is_seen() -> None:
    assert not _is_told("…: expected a bundle folder with wings")


def _places(text: str) -> list[tuple[str, str]]:
    """Every `folder/file.py` and `folder/file.py:Name.method` of a page."""
    return re.findall(r"`((?:\w+/)+\w+\.py)(?::([\w.]+))?`", text)


def _names(path: Path) -> set[str]:
    """Functions and classes of a module, and the methods of its classes."""
    found: set[str] = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
            found |= {f"{node.name}.{each.name}" for each in ast.walk(node) if isinstance(each, ast.FunctionDef)}
    return found


def _lost(text: str) -> list[str]:
    return [
        f"{file}:{name}"
        for file, name in _places(text)
        if not (ROOT / file).is_file() or (name and name not in _names(ROOT / file))
    ]


@pytest.mark.parametrize("page", [ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))], ids=lambda page: page.name)
def test_the_code_that_a_page_names_is_there(page: Path) -> None:
    assert not _lost(page.read_text("utf-8"))


def test_the_way_through_the_code_is_told() -> None:
    assert len(_places((ROOT / "CONTRIBUTING.md").read_text("utf-8"))) >= 20


def test_code_that_is_not_there_is_seen() -> None:
    assert _lost("`runtime/load.py:unload`, `runtime/nowhere.py`") == ["runtime/load.py:unload", "runtime/nowhere.py:"]
