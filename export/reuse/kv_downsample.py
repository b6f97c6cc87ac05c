"""Downsamples the keys and values of self-attention that has a token for every cell of the latents.

Only every n-th row and column of its tokens is projected to keys and values. Neighbours are much alike there; queries
stay, and no weight is trained for it. Source: ToDo, arXiv 2402.13573.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ..graphs import graph_io
from ..graphs.part_names import path_of

KEYS_AND_VALUES = re.compile(r"\.attn1\.to_[kv]\.")
TO_THE_END = np.iinfo(np.int64).max
"""A slice's end for a size that is not known."""


def can_downsample_kv(path: Path) -> bool:
    """Whether a graph on disk has self-attention as large as the latents."""
    return bool(_kv_layers(graph_io.read_graph(path)))


def downsample_kv(model: ir.Model, every: int) -> bool:
    """Lets every self-attention with a token for each cell of `latents` read those of every `every`-th row and column.

    Changes the model; returns False where it has no such self-attention.
    """
    layers = _kv_layers(model)
    if not layers:
        return False
    cells = _cells(model.graph)
    made: dict[ir.Value, ir.Value] = {}
    for layer in layers:
        tokens = layer.node.inputs[0]
        assert tokens is not None
        if tokens not in made:
            fewer = _downsampled(model.graph, layer.tokens, cells, every)
            made[tokens] = (
                fewer if layer.dequantize is None else _clone_dequantizer(model.graph, fewer, layer.dequantize)
            )
        layer.node.replace_input_with(0, made[tokens])
        _forget_sizes(layer.node.outputs[0])
    return True


@dataclass(frozen=True, slots=True)
class _Layer:
    """A projection to keys or values, and the tokens to slice.

    Quantized tokens are sliced as int8: a quarter of the bytes is copied, and the layer stays an int8 layer.
    """

    node: ir.Node
    tokens: ir.Value
    dequantize: ir.Node | None


def _kv_layers(model: ir.Model) -> list[_Layer]:
    latents = _latents(model.graph)
    found = []
    for node in model.graph:
        if node.op_type == "MatMul" and KEYS_AND_VALUES.search(path_of(node)):
            tokens = node.inputs[0]
            assert tokens is not None
            dequantize = _dequantizer(tokens)
            source = tokens if dequantize is None else dequantize.inputs[0]
            assert source is not None and source.shape is not None
            if _has_token_per_cell(source.shape, latents):
                found.append(_Layer(node, source, dequantize))
    return found


def _forget_sizes(value: ir.Value) -> None:
    """Clears the shapes up to the attention's products: they name the size of all cells, and runtimes share memory by
    such names."""
    value.shape = None
    for node, _ in value.uses():
        if node.op_type != "MatMul":
            for output in node.outputs:
                _forget_sizes(output)


def _latents(graph: ir.Graph) -> ir.Value:
    return next(value for value in graph.inputs if value.name == "latents")


def _dequantizer(value: ir.Value) -> ir.Node | None:
    producer = value.producer()
    return producer if producer is not None and producer.op_type == "DequantizeLinear" else None


def _has_token_per_cell(shape: ir.Shape, latents: ir.Value) -> bool:
    """Whether [batch, tokens, width] has a token for each cell, by the names of the sizes."""
    assert latents.shape is not None
    sizes = [str(size) for size in latents.shape[2:]]
    return str(shape[1]) in ("*".join(sizes), "*".join(reversed(sizes)))


def _cells(graph: ir.Graph) -> ir.Value:
    """Height and width of the latents, int64 [2]."""
    sizes = _append_node(graph, "Shape", [_latents(graph)], {"start": 2, "end": 4}, "thinned.cells")
    sizes.dtype, sizes.shape = ir.DataType.INT64, ir.Shape([2])
    return sizes


def _downsampled(graph: ir.Graph, tokens: ir.Value, cells: ir.Value, every: int) -> ir.Value:
    """Tokens [batch, height * width, features] of every n-th row and column, from the first on."""
    assert tokens.shape is not None
    width = tokens.shape[-1]
    assert isinstance(width, int)
    name = f"{tokens.name}.thinned"
    ends = [_shared_constant(graph, [0], "thinned.batch"), cells, _shared_constant(graph, [width], f"thinned.{width}")]
    grid = _append_node(graph, "Concat", ends, {"axis": 0}, f"{name}.shape")
    rows = _append_node(graph, "Reshape", [tokens, grid], {}, f"{name}.rows")
    steps = {"starts": [0, 0], "ends": [TO_THE_END] * 2, "axes": [1, 2], "steps": [every] * 2}
    sliced = [_shared_constant(graph, numbers, f"thinned.{what}") for what, numbers in steps.items()]
    fewer = _append_node(graph, "Slice", [rows, *sliced], {}, f"{name}.fewer")
    flat = _shared_constant(graph, [0, -1, width], f"thinned.flat.{width}")
    result = _append_node(graph, "Reshape", [fewer, flat], {}, name)
    result.type, result.shape = tokens.type, ir.Shape([tokens.shape[0], None, width])
    return result


def _clone_dequantizer(graph: ir.Graph, value: ir.Value, original: ir.Node) -> ir.Value:
    name = f"{value.name}.dequantized"
    made = _append_node(graph, original.op_type, [value, *original.inputs[1:]], dict(original.attributes), name)
    made.type = original.outputs[0].type
    return made


def _shared_constant(graph: ir.Graph, numbers: list[int], name: str) -> ir.Value:
    """An initializer, one for all layers."""
    if name not in graph.initializers:
        graph.register_initializer(ir.Value(name=name, const_value=ir.tensor(np.array(numbers, np.int64), name=name)))
    return graph.initializers[name]


def _append_node(graph: ir.Graph, op_type: str, inputs: list, attributes: dict, name: str) -> ir.Value:
    out = ir.Value(name=name)
    graph.append(ir.node(op_type, inputs, attributes=attributes, outputs=[out], name=f"node_{name}"))
    return out
