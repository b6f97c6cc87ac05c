"""Recorded inputs of a graph, runs of it in memory, and how far its noise is from another's."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
from x2i.runtime.gate.metrics import relative_l2
from x2i.runtime.sessions.backends import open_session
from x2i.runtime.sessions.session import GraphFile

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class RecordedCalls:
    """The files of one graph's recorded inputs. Iterating reads them, in the same order every time."""

    files: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Arrays]:
        for path in self.files:
            with np.load(path, allow_pickle=False) as stored:
                yield dict(stored)


class InMemory:
    """Runs a model whose external weights, if any, lie in `folder`.

    `folded` lets the session compute what depends on weights alone when it opens, and keep it.
    """

    def __init__(self, model: ir.Model, folder: Path, folded: bool = True):
        self._outputs = [value.name or "" for value in model.graph.outputs]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
        self._session = onnxruntime.InferenceSession(
            ir.to_proto(model).SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=None if folded else ["ConstantFolding"],
        )

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        return dict(zip(self._outputs, self._session.run(self._outputs, dict(inputs)), strict=True))


def prediction(outputs: Arrays) -> np.ndarray:
    """All that a denoiser's call gave, its noise or its logits, as one vector."""
    return np.concatenate([array.ravel() for array in outputs.values()])


def relative_error(graph: Path, reference: Path, samples: Iterable[Arrays]) -> float:
    """Relative L2 distance of two graphs' predictions over all samples; one graph is in memory at a time."""
    return relative_l2_of_all(predictions_of(graph, samples), predictions_of(reference, samples))


def predictions_of(graph: Path, samples: Iterable[Arrays]) -> list[np.ndarray]:
    """What a denoiser's graph on disk predicts for every sample, run by ONNX Runtime on the CPU."""
    session = open_session("cpu", GraphFile("denoiser", graph))
    return [prediction(session(**sample)) for sample in samples]


def relative_l2_of_all(actual: Iterable[np.ndarray], expected: Iterable[np.ndarray]) -> float:
    """`relative_l2` of all arrays as one vector; shapes may differ from pair to pair."""
    pairs = list(zip(actual, expected, strict=True))
    first, second = (np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1))
    return relative_l2(first, second)
