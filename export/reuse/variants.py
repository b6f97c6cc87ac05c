"""One variant of a denoiser's graph: features as additional outputs, or as inputs in place of what computes them."""

import re
from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes import common
from x2i.runtime.bundle.preset import CROSS, deep_feature, is_feature_tensor

from ..errors import PlanError
from ..graphs import graph_io
from ..graphs.part_names import path_of
from .kv_downsample import downsample_kv

JOIN = re.compile(r"(^|\.)up_blocks\.\d+\.[^.]+$")
"""An operation of an up block itself, not of a layer in it: where the block joins a skip connection."""
CROSS_ATTENTION = re.compile(r"(?:^|\.)((?:down_blocks|mid_block|up_blocks)\..*)\.attn2\.")


def features(model: ir.Model) -> dict[str, ir.Value]:
    """Every feature by its name: `deep.1` is what meets the last skip connection from below, `deep.2` the one before;
    `cross.LAYER` is what a cross-attention layer adds."""
    return {**_deep(model), **_cross(model)}


def _deep(model: ir.Model) -> dict[str, ir.Value]:
    joins = [node for node in model.graph if node.op_type == "Concat" and JOIN.search(path_of(node))]
    return {deep_feature(depth): _unquantized(node.inputs[0]) for depth, node in enumerate(reversed(joins), 1)}


def _cross(model: ir.Model) -> dict[str, ir.Value]:
    found: dict[str, ir.Value] = {}
    for node in model.graph:
        if matched := CROSS_ATTENTION.search(path_of(node)):
            # The last node of a layer stays.
            found[f"{CROSS}.{matched[1]}"] = node.outputs[0]
    return found


def _unquantized(value: ir.Value | None) -> ir.Value:
    """The value before it was quantized: behind that point it would be lost to the layers that take int8."""
    assert value is not None
    producer = value.producer()
    while producer is not None and producer.op_type in ("DequantizeLinear", "QuantizeLinear"):
        value = producer.inputs[0]
        assert value is not None
        producer = value.producer()
    return value


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
    model = graph_io.read_graph(source)
    found = features(model)
    for feature in (*gives, *takes):
        if not any(is_feature_tensor(tensor, feature) for tensor in found):
            raise PlanError(f"{source.name}: expected a U-Net that holds the feature {feature}, found none to keep")
    if thinned > 1 and not downsample_kv(model, thinned):
        raise PlanError(f"{source.name}: expected self-attention as large as the latents, found none to thin")
    # What is taken must not cut off what is given, so the values to give are still those of the whole graph here.
    for tensor, value in found.items():
        if any(is_feature_tensor(tensor, feature) for feature in gives):
            model.graph.outputs.append(_given(model.graph, value, tensor))
    for tensor, value in found.items():
        if any(is_feature_tensor(tensor, feature) for feature in takes):
            _take(model.graph, value, tensor)
    _prune(model)
    graph_io.write_variant(model, target)


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
