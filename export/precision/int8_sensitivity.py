"""The range of every activation, and which layers int8 damages most."""

import contextlib
import io
from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from onnxruntime.quantization.calibrate import HistogramCollector

from ..errors import PlanError
from ..graphs.graph_runs import Arrays, InMemory, relative_l2_of_all
from ..graphs.part_names import part_of
from .int8_probe import Int8Probe

PERCENTILE = 99.999
"""The share of an activation's values that its range covers. On the small models 99.999 is the best of those tried,
from 99.9 to all: every further sample widens a range that must hold all, and the step of int8 with it."""
BINS = 2048
Ranges = dict[str, Any]
"""Lowest and highest value by tensor, as ONNX Runtime's quantizer takes them."""


def ranges_of(model: ir.Model, tensors: Collection[str], samples: Iterable[Arrays], folder: Path) -> Ranges:
    """Symmetric ranges of the tensors named; `folder` is where the model's external weights lie.

    Tensors are in memory for one sample at a time; only their histograms stay.
    """
    observed = _observed(model, tensors, folder)
    collector = HistogramCollector("percentile", True, BINS, None, PERCENTILE, "same")
    # The collector prints its progress.
    with contextlib.redirect_stdout(io.StringIO()):
        for sample in samples:
            tensor_values = sample | observed(sample)
            collector.collect({name: tensor_values[name] for name in tensors})
        return collector.compute_collection_result()


def _observed(model: ir.Model, tensors: Collection[str], folder: Path) -> InMemory:
    """A session of the model with the tensors as further outputs; the model itself stays as it was."""
    outputs = model.graph.outputs
    own = list(outputs)
    values = {value.name: value for node in model.graph for value in node.outputs}
    outputs.extend(values[name] for name in tensors if name in values and values[name] not in own)
    observed = InMemory(model, folder)
    while len(outputs) > len(own):
        outputs.pop()
    return observed


LARGEST_LAYER_COUNT = 128
"""Layers of a denoiser up to which each is measured by itself; beyond, blocks are."""


@dataclass(frozen=True, slots=True)
class Damage:
    """The error that a layer, or a block of several, makes alone; `layers` are their module paths."""

    name: str
    layers: tuple[str, ...]
    error: float


def rank_layers(switched: Int8Probe, samples: Iterable[Arrays]) -> tuple[Damage, ...]:
    """The damage of every layer, or of every block of a large denoiser, the worst first."""
    error = _Errors(switched, samples)
    groups: dict[str, list[str]] = {}
    single = len(switched.layers) <= LARGEST_LAYER_COUNT
    for layer in switched.layers:
        groups.setdefault(layer.path if single else part_of(f"{layer.path}."), []).append(layer.path)
    found = [Damage(name, tuple(paths), error(paths)) for name, paths in groups.items()]
    return tuple(sorted(found, key=lambda damage: -damage.error))


def worst_layers(switched: Int8Probe, damage: Sequence[Damage], samples: Iterable[Arrays], target: float) -> set[str]:
    """The paths of the fewest of the worst layers that have to stay in float for an error of at most `target`.

    The number is found by bisection, as if each one more helped. Raises PlanError where nothing would be left.
    """
    error = _Errors(switched, samples)
    everything = {layer.path for layer in switched.layers}

    def passes(count: int) -> bool:
        return error(everything - _paths(damage[:count])) <= target

    count = bisect_left(range(len(damage)), True, key=passes)
    if count == len(damage):
        raise PlanError(
            f"--quality: expected an error that int8 can keep to, got {target:g}; the mildest layer alone makes "
            f"{damage[-1].error:.2g}; allow more, or choose fp16"
        )
    return _paths(damage[:count])


def damage_table(damage: Sequence[Damage]) -> list[str]:
    """The ranking as lines of text: rank, error, how many layers, name."""
    head = f"{'':>4} {'error':>9} {'layers':>7}  {'int8 here alone':40}"
    return [head.rstrip()] + [
        f"{number:4} {one.error:9.2e} {len(one.layers):7}  {one.name}" for number, one in enumerate(damage, 1)
    ]


class _Errors:
    """Measures sets of layers against the same graph with none in int8."""

    def __init__(self, switched: Int8Probe, samples: Iterable[Arrays]):
        self._switched, self._samples = switched, samples
        self._expected: list[np.ndarray] = [switched(sample, ()) for sample in samples]

    def __call__(self, paths: Collection[str]) -> float:
        return relative_l2_of_all((self._switched(sample, paths) for sample in self._samples), self._expected)


def _paths(damage: Iterable[Damage]) -> set[str]:
    return {path for one in damage for path in one.layers}
