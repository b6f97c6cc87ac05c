"""A graph read by OpenVINO without a copy of its weights: they stay in the bundle's file, which is mapped."""

import platform
from functools import cache
from pathlib import Path

import numpy as np
import openvino
from openvino import op

from ..files.onnx_weights import NotApart, graph_and_weights
from ..machine import cpu_features


def read_mapped(core: openvino.Core, path: Path) -> openvino.Model:
    """The graph of a file, whose large weights are read from there when they are needed.

    OpenVINO's own reader copies those that lie in the graph's own file, and holds the copy as long as anything that was
    compiled from it. Raises RuntimeError where it cannot read the graph.
    """
    try:
        graph, weights = graph_and_weights(path)
    except (NotApart, OSError):
        # It says better what is wrong with a file, and reads what is not read here.
        return core.read_model(path)
    if not weights:
        return core.read_model(path)
    model = core.read_model(graph)
    inputs = {parameter.get_friendly_name(): parameter for parameter in model.get_parameters()}
    for name, array in weights.items():
        # One that no node reads is no input of the model.
        if name in inputs:
            _put(model, inputs[name], array)
    return model


def _put(model: openvino.Model, place: op.Parameter, weight: np.ndarray) -> None:
    """Puts a weight where the graph has an input for it."""
    if not weight.flags.aligned and not _reads_from_any_byte():
        weight = weight.copy()
    constant = op.Constant(weight, shared_memory=True)
    constant.set_friendly_name(place.get_friendly_name())
    constant.output(0).set_names(place.output(0).get_names())
    place.output(0).replace(constant.output(0))
    model.remove_parameter(place)


@cache
def _reads_from_any_byte() -> bool:
    """Whether numbers may begin at any byte of memory. So OpenVINO has it: only x86 before AVX2 has instructions that
    ask for more, and its plugin then makes copies of its own."""
    return platform.machine().lower() in ("aarch64", "arm64") or "avx2" in cpu_features()
