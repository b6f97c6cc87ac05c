"""One field for each kind of option: how a person sets it, and which value that is.

A field that was left alone has no value: then the bundle's own counts, a preset's for instance. What is no number or no
JSON is handed on as it was written, for the pipeline has the words to refuse it.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from PySide6.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QLineEdit, QPlainTextEdit, QWidget
from x2i.runtime import InputError
from x2i.runtime.inputs.option import Option, short

from .pictures import FileDrop

OWN = "the bundle's own"
"""Said of what no field sets."""


class Field(Protocol):
    """An option on the screen."""

    @property
    def widget(self) -> QWidget:
        """What is shown."""

    def value(self) -> Any:
        """What was set, None where nothing was."""

    def set(self, text: str) -> None:
        """Sets it as a person does. Raises InputError for a word that is no choice."""


class LineField:
    """Words, a number, or several behind one another, in one line."""

    def __init__(self, option: Option, parse: Callable[[str], Any]):
        self.widget = QLineEdit()
        self._option, self._parse = option, parse
        self.widget.setPlaceholderText(_said(option.default))

    def value(self) -> Any:
        text = self.widget.text().strip()
        if not text:
            return None
        words = text.split() if self._option.several else [text]
        found = [self._parse(word) for word in words]
        return found if self._option.several else found[0]

    def set(self, text: str) -> None:
        self.widget.setText(text)


class ListField:
    """Several texts, each in a line, or one that may have lines of its own."""

    def __init__(self, option: Option):
        self.widget = QPlainTextEdit()
        self.widget.setFixedHeight(54)
        self._option = option

    def value(self) -> Any:
        text = self.widget.toPlainText().strip()
        if self._option.form == "table":
            return _json(text) if text else None
        return text.splitlines() or None

    def set(self, text: str) -> None:
        self.widget.setPlainText(text)


class ChoiceField:
    """One of some words."""

    def __init__(self, option: Option, needed: bool):
        self.widget = QComboBox()
        self._option = option
        if not needed and option.default is None:
            self.widget.addItem(OWN, None)
        for word in option.choices:
            self.widget.addItem(word, word)
        self.widget.setCurrentIndex(max(0, self.widget.findData(option.default)))

    def value(self) -> Any:
        word = self.widget.currentData()
        return None if word == self._option.default else word

    def set(self, text: str) -> None:
        if (row := self.widget.findData(text)) < 0:
            words = " or ".join(self._option.choices)
            raise InputError(f"{self._option.name}: expected {words}, got {short(text)}")
        self.widget.setCurrentIndex(row)


class ChoicesField:
    """Any of some words."""

    def __init__(self, option: Option):
        self.widget = QWidget()
        row = QHBoxLayout(self.widget)
        row.setContentsMargins(0, 0, 0, 0)
        self._boxes = [QCheckBox(word) for word in option.choices]
        for box in self._boxes:
            row.addWidget(box)

    def value(self) -> Any:
        return [box.text() for box in self._boxes if box.isChecked()] or None

    def set(self, text: str) -> None:
        for box in self._boxes:
            box.setChecked(box.text() in text.split())


class FlagField:
    """A switch."""

    def __init__(self) -> None:
        self.widget = QCheckBox()

    def value(self) -> Any:
        return self.widget.isChecked() or None

    def set(self, text: str) -> None:
        self.widget.setChecked(text.lower() == "true")


class FileField:
    """Pictures or sounds."""

    def __init__(self, option: Option):
        self.widget = FileDrop(option.name.replace("_", " "), option.several)
        self._several = option.several

    def value(self) -> Any:
        paths = self.widget.paths()
        return (paths if self._several else paths[0]) if paths else None

    def set(self, text: str) -> None:
        self.widget.add(Path(text))


def field_of(option: Option, needed: bool) -> Field | None:
    """The field of an option, None of an array, which people do not write. A choice that is `needed` has no way to be
    left alone."""
    match option.form:
        case "array":
            return None
        case "choice" if option.several:
            return ChoicesField(option)
        case "choice":
            return ChoiceField(option, needed)
        case "flag":
            return FlagField()
        case "picture" | "sound":
            return FileField(option)
        case "weights" | "item" | "table":
            return ListField(option)
        case _:
            return LineField(option, PARSERS.get(option.form, str))


def _number(kind: type) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            return text

    return parse


def _size(text: str) -> Any:
    found = re.fullmatch(r"([0-9]{1,9})\s*[x×]\s*([0-9]{1,9})", text)
    return (int(found[1]), int(found[2])) if found else text


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


PARSERS: dict[str, Callable[[str], Any]] = {"number": _number(float), "count": _number(int), "size": _size}


def _said(default: Any) -> str:
    if default is None:
        return OWN
    if isinstance(default, tuple):
        return "x".join(map(str, default))
    return f"{default:g}" if isinstance(default, float) else str(default)
