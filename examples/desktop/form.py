"""The form of a bundle: made from the records of its options, so that a new system needs no line here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFormLayout, QLabel, QPlainTextEdit, QToolButton, QVBoxLayout, QWidget
from x2i.runtime import InputError, Pipeline
from x2i.runtime.inputs.option import Option, unknown_options
from x2i.runtime.inputs.registry import run_options

from .fields import Field, FileField, field_of

FREQUENT = ("language", "negative", "seed", "steps", "guidance", "size", "count")
"""Shown first; the others behind a click."""
ASIDE = ("start", "inpaint", "paint")
"""Pictures that most runs do without."""
NEEDED = ("language",)
"""Choices without a value of the bundle's own."""


class Form(QWidget):
    """Prompt and options of the bundle of a pipeline."""

    def __init__(self, pipeline: Pipeline):
        super().__init__()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 8, 0)
        self.prompt = QPlainTextEdit()
        self.prompt.setFixedHeight(64)
        self.prompt.setTabChangesFocus(True)
        need = pipeline.prompt_need()
        self.prompt.setPlaceholderText("What to draw" if need == "required" else "May be left out")
        self.prompt.setVisible(need != "none")
        column.addWidget(self.prompt)
        options = pipeline.options()
        made = {name: field_of(option, name in NEEDED) for name, option in options.items()}
        self.fields: dict[str, Field] = {name: field for name, field in made.items() if field is not None}
        files = [name for name, field in self.fields.items() if isinstance(field, FileField) and name not in ASIDE]
        column.addLayout(self._rows([*files, *(name for name in FREQUENT if name in self.fields)], options))
        rare = [name for name in self.fields if name not in (*FREQUENT, *files)]
        if rare:
            self._fold(column, self._rows(rare, options))
        column.addStretch()

    def _rows(self, names: list[str], options: Mapping[str, Option]) -> QFormLayout:
        rows = QFormLayout()
        rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for name in names:
            field, label = self.fields[name], QLabel(name.replace("_", " "))
            for each in (field.widget, label):
                each.setToolTip(options[name].help)
            if isinstance(field, FileField):
                rows.addRow(field.widget)
            else:
                rows.addRow(label, field.widget)
        return rows

    def _fold(self, column: QVBoxLayout, rows: QFormLayout) -> None:
        more, folded = QToolButton(), QWidget()
        more.setText("More options")
        more.setCheckable(True)
        more.setArrowType(Qt.ArrowType.RightArrow)
        more.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        more.setAutoRaise(True)
        rows.setContentsMargins(0, 0, 0, 0)
        folded.setLayout(rows)
        folded.hide()
        more.toggled.connect(folded.setVisible)
        more.toggled.connect(
            lambda shown: more.setArrowType(Qt.ArrowType.DownArrow if shown else Qt.ArrowType.RightArrow)
        )
        column.addWidget(more)
        column.addWidget(folded)

    def asked(self) -> tuple[str | None, dict[str, Any]]:
        """The prompt, None where there is none, and the options that were set."""
        values = {name: field.value() for name, field in self.fields.items()}
        options = {name: value for name, value in values.items() if value is not None}
        return self.prompt.toPlainText().strip() or None, options

    def set(self, name: str, text: str) -> None:
        """Sets an option as a person does. Raises InputError for one that the bundle does not have."""
        if name not in run_options():
            raise InputError(*unknown_options([name], self.fields))
        if name not in self.fields:
            raise InputError(f"{name}: this bundle takes none; leave it out")
        self.fields[name].set(text)

    def drop(self, path: Path) -> bool:
        """Takes a file that was dropped beside the fields: the first that has room, or else the first. False where the
        bundle reads none."""
        drops = [field.widget for field in self.fields.values() if isinstance(field, FileField)]
        if not drops:
            return False
        next((drop for drop in drops if drop.has_room), drops[0]).add(path)
        return True
