"""Graphs as they are called: their tensors, the slots that a plan puts these in, and names that stand for a choice."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta

from .records import Index

Dtype = Annotated[str, Meta(pattern="^(bool|str|b?float16|float32|float64|u?int(8|16|32|64))$")]
"""numpy's names of what a tensor may hold, and bfloat16, which numpy lacks."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A graph input or output: ONNX name, numpy dtype name, shape with names for the sizes that are free."""

    name: str
    dtype: Dtype
    shape: tuple[Index | str, ...]


@dataclass(frozen=True, slots=True)
class GraphCall:
    """One graph call: `inputs` maps graph inputs to slots, `outputs` maps graph outputs to slots."""

    graph: str
    inputs: dict[str, str]
    outputs: dict[str, str]


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """What a plan asks of one graph: tensors that it feeds and takes, each with its slot, and the shapes that it counts
    on, free sizes as names."""

    graph: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    shapes: dict[str, tuple[int | str, ...]] = field(default_factory=dict)


def expand_wildcards(mapping: dict[str, str], tensors: Iterable[str]) -> dict[str, str]:
    """A plan's mapping with `key.*` spelled out for the graph's tensors: tensor name to slot name."""
    names = list(tensors)
    out: dict[str, str] = {}
    for name, slot in mapping.items():
        if name.endswith(".*"):
            out |= {t: slot[:-1] + t[len(name) - 1 :] for t in names if t.startswith(name[:-1])}
        else:
            out[name] = slot
    return out


def matches(pattern: str, graphs: set[str]) -> dict[str, str]:
    """The graphs a plan's graph name stands for, by the option's value ("" for a plain name)."""
    if pattern in graphs:
        return {"": pattern}
    found = re.fullmatch(r"([^{}]*)\{\w+\}([^{}]*)", pattern)
    if found is None:
        return {}
    prefix, suffix = found.groups()
    return {
        name[len(prefix) : len(name) - len(suffix)]: name
        for name in sorted(graphs)
        if name.startswith(prefix) and name.endswith(suffix) and len(name) > len(prefix) + len(suffix)
    }


def shapes_agree(one: Sequence[int | str], other: Sequence[int | str]) -> bool:
    """Whether two shapes have as many sizes, and the same where both are fixed."""
    if len(one) != len(other):
        return False
    return all(a == b for a, b in zip(one, other, strict=True) if isinstance(a, int) and isinstance(b, int))
