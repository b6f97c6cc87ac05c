"""Which graphs a picture takes, how often and at which shapes: the runtime's own loop, with nothing computed."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from x2i.runtime.bundle.reader import Bundle
from x2i.runtime.pipeline import Pipeline
from x2i.runtime.profiling.job import stand_ins
from x2i.runtime.sessions.session import Outputs, UnboundSession

from .static_graph import StaticGraph, static_graph

Shapes = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class EstimatedCall:
    """A graph at the shapes it is called with, and how often a run calls it so."""

    name: str
    graph: StaticGraph
    count: int


def graph_calls(bundle: Bundle, options: Mapping[str, Any]) -> list[EstimatedCall]:
    """The calls of one run, in the order of their first; `options` are those of Pipeline. Raises InputError."""
    tally = Counter[tuple[str, Shapes]]()
    graphs: dict[tuple[str, Shapes], StaticGraph] = {}

    def counting(name: str) -> _CountingSession:
        return _CountingSession(name, bundle, tally, graphs)

    Pipeline(bundle, counting)(**{**stand_ins(bundle), **options})
    return [EstimatedCall(name, graphs[name, shapes], count) for (name, shapes), count in tally.items()]


class _CountingSession(UnboundSession):
    """A session that notes what it is called with and returns zeros."""

    def __init__(
        self,
        name: str,
        bundle: Bundle,
        tally: Counter[tuple[str, Shapes]],
        graphs: dict[tuple[str, Shapes], StaticGraph],
    ):
        graph = bundle.manifest.graphs[name]
        super().__init__(graph.inputs, graph.outputs)
        self._name, self._path, self._tally, self._graphs = name, bundle.path(graph.file), tally, graphs

    def __call__(self, **arrays: np.ndarray) -> Outputs:
        shapes = {name: array.shape for name, array in arrays.items()}
        key = self._name, tuple(sorted(shapes.items()))
        if key not in self._graphs:
            self._graphs[key] = static_graph(self._path, shapes)
        self._tally[key] += 1
        tensors = self._graphs[key].tensors
        return {output.name: np.zeros(tensors[output.name].shape, output.dtype) for output in self.outputs}
