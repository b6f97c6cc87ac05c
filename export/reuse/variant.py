"""One variant of a denoiser's graph: features as additional outputs, or as inputs in place of what computes them.

With the features that a variant takes, the nodes behind them go; its self-attention may be thinned besides. Step
caching: DeepCache (arXiv 2312.00858), with two static graphs. Frozen cross-attention: T-GATE (arXiv 2404.02747).
"""

from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes import common
from x2i.runtime.variants import is_of

from ..errors import PlanError
from ..precision import graph_store
from .features import features
from .thinned import thin

INTERFACE = ir.DataType.FLOAT
"""Graphs take and give float32 whatever they compute in; to and from float16 it is exact."""


def write_variant(
    source: Path, target: Path, gives: Sequence[str] = (), takes: Sequence[str] = (), thinned: int = 1
) -> None:
    """Writes the graph `source` with features given and taken to `target`, in the same folder, and with the keys and
    values of every `thinned`-th row and column.

    Weights that `source` keeps in a file of their own are not written again: `target` refers to that file. Raises
    PlanError for a graph in which a feature, or self-attention to thin, is not found.
    """
    assert source.parent == target.parent, "a variant refers to the weights beside it"
    model = graph_store.read_graph(source)
    found = features(model)
    for feature in (*gives, *takes):
        if not any(is_of(tensor, feature) for tensor in found):
            raise PlanError(f"{source.name}: expected a U-Net that holds the feature {feature}, found none to keep")
    if thinned > 1 and not thin(model, thinned):
        raise PlanError(f"{source.name}: expected self-attention as large as the latents, found none to thin")
    # What is taken must not cut off what is given, so the values to give are still those of the whole graph here.
    for tensor, value in found.items():
        if any(is_of(tensor, feature) for feature in gives):
            model.graph.outputs.append(_given(model.graph, value, tensor))
    for tensor, value in found.items():
        if any(is_of(tensor, feature) for feature in takes):
            _take(model.graph, value, tensor)
    _prune(model)
    graph_store.write_variant(model, target)


def _given(graph: ir.Graph, value: ir.Value, name: str) -> ir.Value:
    """The value as an output; by its own name where it can, since of two names of a tensor OpenVINO tells either."""
    if value.dtype == INTERFACE:
        value.name = name
        return value
    return _cast(graph, value, name, INTERFACE)


def _take(graph: ir.Graph, value: ir.Value, name: str) -> None:
    """Puts an input in the place of a value."""
    assert value.dtype is not None
    given = ir.Value(name=name, type=ir.TensorType(INTERFACE), shape=value.shape)
    graph.inputs.append(given)
    uses = tuple(value.uses())
    taken = given if value.dtype == INTERFACE else _cast(graph, given, f"{name}.taken", value.dtype)
    for node, place in uses:
        node.replace_input_with(place, taken)


def _cast(graph: ir.Graph, value: ir.Value, name: str, dtype: ir.DataType) -> ir.Value:
    out = ir.Value(name=name, type=ir.TensorType(dtype), shape=value.shape)
    graph.append(ir.node("Cast", [value], attributes={"to": dtype}, outputs=[out], name=f"node_{name}"))
    return out


def _prune(model: ir.Model) -> None:
    """Drops nodes, constants, functions and inputs that no output needs."""
    # The pass goes backwards once: what was added last must first be where it belongs.
    model.graph.sort()
    common.RemoveUnusedNodesPass()(model)
    common.RemoveUnusedFunctionsPass()(model)
    for value in [value for value in model.graph.inputs if not value.uses()]:
        model.graph.inputs.remove(value)
