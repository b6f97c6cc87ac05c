"""What an engine depends on: where any of it differs, the engine is another one."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field

from ..bundle.records import encode

Range = tuple[int, int, int]
"""Smallest, usual and largest value of a free size."""


@dataclass(frozen=True, slots=True)
class EngineKey:
    """Everything that decides what an engine is.

    `digest` is the SHA-256 of the graph and its external data; `library` an import name such as `tensorrt_rtx`;
    `device` whatever of the machine the library compiles for, in that library's words: `any GPU`, `sm_86 sm_89`, or the
    model of a CPU. `shapes` holds the range of every free size by its name in the graph; it is empty where an engine
    serves all shapes. `options` are the build's other choices.
    """

    graph: str
    digest: str
    precision: str
    library: str
    version: str
    device: str
    shapes: dict[str, Range] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)

    def sha256(self) -> str:
        """Digest over all fields, hexadecimal."""
        return hashlib.sha256(json.dumps(encode(self), sort_keys=True).encode()).hexdigest()

    @property
    def stem(self) -> str:
        """The name of its files, without the suffix."""
        return f"{self.graph}-{self.library}-{self.sha256()[:16]}"


Differences = Callable[[EngineKey, EngineKey], list[str]]
"""Why an engine of the first key does not serve the second, in words; nothing where it does."""


def differences(there: EngineKey, wanted: EngineKey) -> list[str]:
    """Every field in which an engine differs from the one wanted; those of `options` one by one."""
    found = []
    if there.digest != wanted.digest:
        found.append("built from another export of the graph")
    if there.precision != wanted.precision:
        found.append(f"built at {there.precision}, this graph is {wanted.precision}")
    if (there.library, there.version) != (wanted.library, wanted.version):
        found.append(f"built by {there.library} {there.version}, this is {wanted.library} {wanted.version}")
    if there.device != wanted.device:
        found.append(f"built for {there.device}, this is {wanted.device}")
    found += [
        f"built for {name} {_range(there.shapes.get(name))}, wanted {_range(wanted.shapes.get(name))}"
        for name in dict.fromkeys((*there.shapes, *wanted.shapes))
        if there.shapes.get(name) != wanted.shapes.get(name)
    ]
    found += [
        f"built with {name} {there.options.get(name, 'unset')}, wanted {wanted.options.get(name, 'unset')}"
        for name in dict.fromkeys((*there.options, *wanted.options))
        if there.options.get(name) != wanted.options.get(name)
    ]
    return found


def _range(sizes: Range | None) -> str:
    if sizes is None:
        return "of any size"
    least, _, most = sizes
    return str(least) if least == most else f"{least}..{most}"
