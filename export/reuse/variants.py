"""One variant of a denoiser's graph: features as additional outputs, or as inputs in place of what computes them."""

import re
from pathlib import Path

import onnx_ir as ir
from x2i.runtime.bundle.preset import CROSS, DenoiserVariant, deep_feature, is_feature_tensor

from ..errors import PlanError
from ..graphs import graph_io
from ..graphs.part_names import path_of
from ..graphs.rewiring import cast_value, prune, unquantized
from .kv_downsample import downsample_kv

JOIN = re.compile(r"(^|\.)up_blocks\.\d+\.[^.]+$")
"""An operation of an up block itself, not of a layer in it: where the block joins a skip connection."""
CROSS_ATTENTION = re.compile(r"(?:^|\.)((?:down_blocks|mid_block|up_blocks)\..*)\.attn2\.")


def feature_tensors(model: ir.Model) -> dict[str, ir.Value]:
    """The tensors of every feature by name.

    `deep.1` meets the last skip connection from below, `deep.2` the one before; `cross.LAYER` is what a cross-attention
    layer adds.
    """
    return {**_deep_tensors(model), **_cross_tensors(model)}


def _deep_tensors(model: ir.Model) -> dict[str, ir.Value]:
    joins = [node for node in model.graph if node.op_type == "Concat" and JOIN.search(path_of(node))]
    return {deep_feature(depth): unquantized(node.inputs[0]) for depth, node in enumerate(reversed(joins), 1)}


def _cross_tensors(model: ir.Model) -> dict[str, ir.Value]:
    found: dict[str, ir.Value] = {}
    for node in model.graph:
        if matched := CROSS_ATTENTION.search(path_of(node)):
            # A later node of the same layer replaces an earlier one, so that the last node's output remains.
            found[f"{CROSS}.{matched[1]}"] = node.outputs[0]
    return found


INTERFACE = ir.DataType.FLOAT
"""Inputs and outputs of graphs are float32 whatever they compute in; the cast from float16 and back is exact."""


def write_variant_graph(source: Path, target: Path, variant: DenoiserVariant) -> None:
    """Writes a denoiser's graph `source` as the variant says to `target`, in the same folder.

    Weights that `source` keeps in a file of their own are not written again: `target` refers to that file. Raises
    PlanError for a graph in which a feature, or self-attention as large as the latents, is not found.
    """
    assert source.parent == target.parent, "a variant refers to the weights beside it"
    model = graph_io.read_graph(source)
    found = feature_tensors(model)
    for feature in (*variant.features_out, *variant.features_in):
        if not any(is_feature_tensor(tensor, feature) for tensor in found):
            raise PlanError(f"{source.name}: expected a U-Net that holds the feature {feature}, found none to keep")
    if variant.kv_downsample > 1 and not downsample_kv(model, variant.kv_downsample):
        raise PlanError(f"{source.name}: expected self-attention as large as the latents, found none to thin")
    # Outputs come first: an input replaces a value, and what then feeds an output must still be the whole graph's.
    for tensor, value in found.items():
        if any(is_feature_tensor(tensor, feature) for feature in variant.features_out):
            model.graph.outputs.append(_output(model.graph, value, tensor))
    for tensor, value in found.items():
        if any(is_feature_tensor(tensor, feature) for feature in variant.features_in):
            _replace_by_input(model.graph, value, tensor)
    prune(model)
    graph_io.write_beside(model, target)


def _output(graph: ir.Graph, value: ir.Value, name: str) -> ir.Value:
    """The value as a float32 output called `name`.

    The value itself is renamed where it has the type already: where a tensor has two names OpenVINO reports either.
    """
    if value.dtype == INTERFACE:
        value.name = name
        return value
    return cast_value(graph, value, name, INTERFACE)


def _replace_by_input(graph: ir.Graph, value: ir.Value, name: str) -> None:
    """Puts an input in the place of a value."""
    assert value.dtype is not None
    feature = ir.Value(name=name, type=ir.TensorType(INTERFACE), shape=value.shape)
    graph.inputs.append(feature)
    uses = tuple(value.uses())
    typed = feature if value.dtype == INTERFACE else cast_value(graph, feature, f"{name}.taken", value.dtype)
    for node, place in uses:
        node.replace_input_with(place, typed)
