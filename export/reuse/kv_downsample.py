"""Self-attention that reads the keys and values of every n-th row and column alone, where it is as large as the
latents.

Neighbours say much the same there; the queries stay, and nothing is trained for it (ToDo, arXiv 2402.13573).
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


def can_downsample_kv(path: Path) -> bool:
    """Whether a graph on disk has self-attention as large as the latents."""
    return bool(_layers(graph_io.read_graph(path)))


def downsample_kv(model: ir.Model, every: int) -> bool:
    """Thins every self-attention whose tokens are the cells of `latents`; False where there is none."""
    layers = _layers(model)
    if not layers:
        return False
    cells = _cells(model.graph)
    made: dict[ir.Value, ir.Value] = {}
    for layer in layers:
        tokens = layer.node.inputs[0]
        assert tokens is not None
        if tokens not in made:
            fewer = _thinned(model.graph, layer.tokens, cells, every)
            made[tokens] = fewer if layer.dequantize is None else _dequantized(model.graph, fewer, layer.dequantize)
        layer.node.replace_input_with(0, made[tokens])
        _forget_sizes(layer.node.outputs[0])
    return True


@dataclass(frozen=True, slots=True)
class _Layer:
    """A projection to keys or values, and its tokens: int8 ones where they are quantized, since then a quarter of the
    bytes is copied and the layer stays an int8 layer."""

    node: ir.Node
    tokens: ir.Value
    dequantize: ir.Node | None


def _layers(model: ir.Model) -> list[_Layer]:
    latents = _latents(model.graph)
    found = []
    for node in model.graph:
        if node.op_type == "MatMul" and KEYS_AND_VALUES.search(path_of(node)):
            tokens = node.inputs[0]
            assert tokens is not None
            dequantize = _dequantize(tokens)
            source = tokens if dequantize is None else dequantize.inputs[0]
            assert source is not None and source.shape is not None
            if _as_many(source.shape, latents):
                found.append(_Layer(node, source, dequantize))
    return found


def _forget_sizes(value: ir.Value) -> None:
    """Up to the attention's own products no size is named after all cells any more: runtimes share memory by names."""
    value.shape = None
    for node, _ in value.uses():
        if node.op_type != "MatMul":
            for output in node.outputs:
                _forget_sizes(output)


def _latents(graph: ir.Graph) -> ir.Value:
    return next(value for value in graph.inputs if value.name == "latents")


def _dequantize(value: ir.Value) -> ir.Node | None:
    producer = value.producer()
    return producer if producer is not None and producer.op_type == "DequantizeLinear" else None


def _as_many(shape: ir.Shape, latents: ir.Value) -> bool:
    """Whether [batch, tokens, width] has a token for each cell, by the names of the sizes."""
    assert latents.shape is not None
    sizes = [str(size) for size in latents.shape[2:]]
    return str(shape[1]) in ("*".join(sizes), "*".join(reversed(sizes)))


def _cells(graph: ir.Graph) -> ir.Value:
    """Height and width of the latents, int64 [2]."""
    sizes = _node(graph, "Shape", [_latents(graph)], {"start": 2, "end": 4}, "thinned.cells")
    sizes.dtype, sizes.shape = ir.DataType.INT64, ir.Shape([2])
    return sizes


def _thinned(graph: ir.Graph, tokens: ir.Value, cells: ir.Value, every: int) -> ir.Value:
    """Tokens [batch, height * width, features] of every n-th row and column, from the first on."""
    assert tokens.shape is not None
    width = tokens.shape[-1]
    assert isinstance(width, int)
    name = f"{tokens.name}.thinned"
    ends = [_constant(graph, [0], "thinned.batch"), cells, _constant(graph, [width], f"thinned.{width}")]
    grid = _node(graph, "Concat", ends, {"axis": 0}, f"{name}.shape")
    rows = _node(graph, "Reshape", [tokens, grid], {}, f"{name}.rows")
    steps = {"starts": [0, 0], "ends": [TO_THE_END] * 2, "axes": [1, 2], "steps": [every] * 2}
    sliced = [_constant(graph, numbers, f"thinned.{what}") for what, numbers in steps.items()]
    fewer = _node(graph, "Slice", [rows, *sliced], {}, f"{name}.fewer")
    flat = _constant(graph, [0, -1, width], f"thinned.flat.{width}")
    result = _node(graph, "Reshape", [fewer, flat], {}, name)
    result.type, result.shape = tokens.type, ir.Shape([tokens.shape[0], None, width])
    return result


def _dequantized(graph: ir.Graph, value: ir.Value, like: ir.Node) -> ir.Value:
    name = f"{value.name}.dequantized"
    made = _node(graph, like.op_type, [value, *like.inputs[1:]], dict(like.attributes), name)
    made.type = like.outputs[0].type
    return made


def _constant(graph: ir.Graph, numbers: list[int], name: str) -> ir.Value:
    """An initializer, one for all layers."""
    if name not in graph.initializers:
        graph.register_initializer(ir.Value(name=name, const_value=ir.tensor(np.array(numbers, np.int64), name=name)))
    return graph.initializers[name]


def _node(graph: ir.Graph, op_type: str, inputs: list, attributes: dict, name: str) -> ir.Value:
    out = ir.Value(name=name)
    graph.append(ir.node(op_type, inputs, attributes=attributes, outputs=[out], name=f"node_{name}"))
    return out
