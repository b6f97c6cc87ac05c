"""The proof in the bundle: runs the graphs on stored inputs and compares them with the stored fp32 torch outputs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files.reading import read_array
from ..sessions.session import Session
from .manifest import Graph
from .reader import Bundle


@dataclass(frozen=True, slots=True)
class GraphCheck:
    """Error of one graph on this machine, as a share of the standard deviation of torch's output."""

    graph: str
    error: float
    gate: float

    @property
    def passed(self) -> bool:
        """Whether the error is at most the gate; NaN is not."""
        return self.error <= self.gate


def proof_error(folder: Path, graph: Graph, session: Session) -> float:
    """The largest error of all outputs: |session - torch| at most, divided by the standard deviation of torch's, where
    NaN counts as infinite; of whole numbers, such as tokens, the share that differs."""
    arrays = {name: read_array(folder / file, "an array of the proof") for name, file in graph.proof.items()}
    missing = [t.name for t in (*graph.inputs, *graph.outputs) if t.name not in arrays]
    if missing:
        raise InputError(f"{folder}: the proof of {graph.file} lacks {', '.join(missing)}; export the bundle again")
    outputs = session(**{tensor.name: arrays[tensor.name] for tensor in graph.inputs})
    worst = 0.0
    for tensor in graph.outputs:
        expected, actual = arrays[tensor.name], outputs[tensor.name]
        if actual.shape != expected.shape or not np.isfinite(actual).all():
            return float("inf")
        if np.issubdtype(expected.dtype, np.integer):
            worst = max(worst, float((actual != expected).mean()))
        else:
            worst = max(worst, float(np.abs(actual - expected).max() / (expected.std() or 1.0)))
    return worst


def check_against_fp32(bundle: Bundle, session: Callable[[str], Session]) -> Iterator[GraphCheck]:
    """Proves every graph of a bundle, one after the other; `session(name)` gives the graph's, as a Pipeline's does."""
    for name, graph in bundle.manifest.graphs.items():
        bundle.check(graph.proof.values())
        yield GraphCheck(name, proof_error(bundle.folder, graph, session(name)), graph.measured.gate)
