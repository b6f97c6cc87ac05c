"""The range of every activation that int8 must represent, over all samples."""

import contextlib
import io
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import onnx_ir as ir
from onnxruntime.quantization.calibrate import HistogramCollector

from .in_memory import InMemory
from .samples import Arrays

PERCENTILE = 99.999
"""The share of an activation's values that its range covers. On the small models 99.999 is the best of those tried,
from 99.9 to all: every further sample widens a range that must hold all, and the step of int8 with it."""
BINS = 2048

Ranges = dict[str, Any]
"""Lowest and highest value by tensor, as ONNX Runtime's quantizer takes them."""


def ranges_of(model: ir.Model, tensors: Collection[str], samples: Iterable[Arrays], folder: Path) -> Ranges:
    """Symmetric ranges of the tensors named; `folder` is where the model's external weights lie.

    Of one sample at a time all tensors are in memory, of all samples only the histograms.
    """
    observed = _observed(model, tensors, folder)
    collector = HistogramCollector("percentile", True, BINS, None, PERCENTILE, "same")
    # The collector prints its progress.
    with contextlib.redirect_stdout(io.StringIO()):
        for sample in samples:
            given = sample | observed(sample)
            collector.collect({name: given[name] for name in tensors})
        return collector.compute_collection_result()


def _observed(model: ir.Model, tensors: Collection[str], folder: Path) -> InMemory:
    """The model with the tensors as further outputs; it is itself left as it was."""
    outputs = model.graph.outputs
    own = list(outputs)
    values = {value.name: value for node in model.graph for value in node.outputs}
    outputs.extend(values[name] for name in tensors if name in values and values[name] not in own)
    observed = InMemory(model, folder)
    while len(outputs) > len(own):
        outputs.pop()
    return observed
