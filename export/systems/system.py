"""What a system is to the exporter: its parts on the command line, and the graphs and plan it builds."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from x2i.runtime.plan import Plan

from ..component import Component

if TYPE_CHECKING:
    from ..plan import ExportPlan


@dataclass(frozen=True, slots=True)
class Build:
    """A system read from its files: the runtime's plan, the tokenizers (file name to JSON text), and its components.

    `components` is an iterator so that a component's weights can be freed before the next one is traced.
    """

    plan: Plan
    tokenizers: dict[str, str]
    components: Iterator[Component]
    count: int


def drained(components: list[Component]) -> Iterator[Component]:
    """Yields components front to back and lets go of each, so that no more weights are held than are still needed."""
    while components:
        yield components.pop(0)


@dataclass(frozen=True, slots=True)
class SystemSpec:
    """A system by name: the parts it takes and how it is built.

    `required` and `optional` map part names to what the part is; a name that ends in `:NAME` is repeatable.
    """

    build: Callable[["ExportPlan"], Build]
    required: dict[str, str] = field(default_factory=dict)
    optional: dict[str, str] = field(default_factory=dict)

    def part_problems(self, parts: dict[str, Path]) -> list[str]:
        """Parts that are missing, unknown or badly named."""
        known = self.required | self.optional
        usage = "; ".join(f"{name} ({meaning})" for name, meaning in known.items()) or "no parts"
        problems = [
            f"--part {name}: unknown for this system; it takes {usage}" for name in parts if not _fits(name, known)
        ]
        problems += [
            f"--part {name}: expected {meaning}, got nothing"
            for name, meaning in self.required.items()
            if not any(_fits(part, {name: meaning}) for part in parts)
        ]
        return problems


def _fits(part: str, known: dict[str, str]) -> bool:
    kind, colon, name = part.partition(":")
    if not colon:
        return part in known
    return any(k.startswith(f"{kind}:") for k in known) and re.fullmatch(r"[\w-]+", name) is not None
