"""A graph that takes a LoRA as two inputs: beside every layer, what its low-rank factors add.

It is cut from the finished graph, whatever its precision, and holds no weight: it refers to those in the files of that
graph. `lora_down` [sum of the layers' inputs, rank] and `lora_up` [rank, sum of their outputs] are split into the
layers' factors inside; the rank is free.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx_ir as ir
from x2i.runtime.inputs.lora import DOWN, UP, LoraLayer

from ..errors import PlanError
from ..graphs import graph_io
from ..graphs.part_names import is_module, path_of
from ..graphs.rewiring import unquantized

RANK = "rank"
PRODUCTS = ("MatMul", "Gemm", "Conv")
_PASSED = ("Add", "Cast", "Identity")
"""Between a product and the output of a projection graph."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A product with its share of a layer: all of it, the outputs from `first_out` on, or the inputs from `first_in`
    on."""

    node: ir.Node
    first_in: int
    width_in: int
    first_out: int
    width_out: int


def write_lora_graph(source: Path, target: Path, layers: Sequence[LoraLayer]) -> None:
    """Writes the graph `source` with inputs for a LoRA of these layers to `target`, in the same folder.

    Raises PlanError for a layer that the graph has not.
    """
    assert source.parent == target.parent, "a variant refers to the weights beside it"
    model = graph_io.read_graph(source)
    graph_io.refer_to_weights(model.graph, source)
    pieces = {layer.path: _pieces(model.graph, layer) for layer in layers}
    if missing := [path for path, found in pieces.items() if not found]:
        raise PlanError(f"{source.name}: expected the layers {', '.join(missing)}, found none to change")
    downs = _split_input(model.graph, DOWN, 0, [width for layer in layers for width in _widths_in(pieces[layer.path])])
    ups = _split_input(model.graph, UP, 1, [width for layer in layers for width in _widths_out(pieces[layer.path])])
    for layer in layers:
        _add_layer(model.graph, layer, pieces[layer.path], downs, ups)
    graph_io.write_beside(model, target)


def changeable(source: Path, layers: Iterable[LoraLayer]) -> list[LoraLayer]:
    """Those of the layers that a graph computes."""
    model = graph_io.read_graph(source)
    return [layer for layer in layers if _pieces(model.graph, layer)]


def _pieces(graph: ir.Graph, layer: LoraLayer) -> list[_Piece]:
    """The products that a layer became: one; two halves of its outputs, or of its inputs, in int8."""
    found = [node for node in graph if node.op_type in PRODUCTS and _layer_of(node, layer.path)]
    if not found:
        found = [node for node in (_behind_output(graph, name) for name in layer.outputs()) if node is not None]
    halves = [node for node in found if _layer_of(node, layer.path) == "half"]
    if not halves:
        return [_Piece(node, 0, layer.width_in, 0, layer.width_out) for node in found]
    sizes = [_weight_shape(node) for node in halves]
    by_inputs = halves[0].op_type == "Conv"
    ends = np.cumsum([0, *(size[1] if by_inputs else size[-1] for size in sizes)]).tolist()
    if ends[-1] != (layer.width_in if by_inputs else layer.width_out):
        return []
    cuts = zip(halves, pairwise(ends), strict=True)
    if by_inputs:
        return [_Piece(node, start, end - start, 0, layer.width_out) for node, (start, end) in cuts]
    return [_Piece(node, 0, layer.width_in, start, end - start) for node, (start, end) in cuts]


def _layer_of(node: ir.Node, path: str) -> str:
    """Whether a node is the layer's ("whole"), or one half of it as int8 splits it; else empty."""
    module = path_of(node).rpartition(".")[0]
    if is_module(module, path):
        return "whole"
    parent, _, half = module.rpartition(".")
    return "half" if half.isdigit() and is_module(parent, path) else ""


def _behind_output(graph: ir.Graph, name: str) -> ir.Node | None:
    """The product that makes an output."""
    value = next((output for output in graph.outputs if output.name == name), None)
    node = None if value is None else value.producer()
    while node is not None and node.op_type in _PASSED:
        node = next((made for each in node.inputs if each is not None and (made := each.producer()) is not None), None)
    return node if node is not None and node.op_type in PRODUCTS else None


def _weight_shape(node: ir.Node) -> list[int]:
    value = node.inputs[1]
    assert value is not None and value.shape is not None
    return [int(size) for size in value.shape]  # type: ignore[arg-type]


def _widths_in(pieces: Sequence[_Piece]) -> list[int]:
    return [piece.width_in for piece in {piece.first_in: piece for piece in pieces}.values()]


def _widths_out(pieces: Sequence[_Piece]) -> list[int]:
    return [piece.width_out for piece in {piece.first_out: piece for piece in pieces}.values()]


def _split_input(graph: ir.Graph, name: str, axis: int, widths: Sequence[int]) -> Iterator[ir.Value]:
    """A new input, cut into parts of these widths along an axis."""
    total: int | str = sum(widths)
    shape = [total, RANK] if axis == 0 else [RANK, total]
    whole = ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(shape))
    graph.inputs.append(whole)
    if len(widths) == 1:
        return iter([whole])
    sizes = graph_io.add_initializer(graph, f"{name}.widths", np.array(widths, np.int64))
    parts = [_value(f"{name}.{number}", ir.DataType.FLOAT, 2) for number in range(len(widths))]
    graph.append(ir.node("Split", [whole, sizes], {"axis": axis}, outputs=parts, name=f"node_{name}"))
    return iter(parts)


def _add_layer(
    graph: ir.Graph, layer: LoraLayer, pieces: Sequence[_Piece], downs: Iterator[ir.Value], ups: Iterator[ir.Value]
) -> None:
    """Puts the product of a layer's factors beside each of its products."""
    down = {start: next(downs) for start in dict.fromkeys(piece.first_in for piece in pieces)}
    up = {start: next(ups) for start in dict.fromkeys(piece.first_out for piece in pieces)}
    narrow: dict[tuple[str | None, int], ir.Value] = {}
    for number, piece in enumerate(pieces):
        _Branch(graph, f"lora.{layer.path}.{number}", piece.node).add(
            down[piece.first_in], up[piece.first_out], narrow, piece.first_in
        )


class _Branch:
    """The nodes beside one product."""

    def __init__(self, graph: ir.Graph, name: str, node: ir.Node):
        self._graph, self._name, self._node = graph, name, node
        self._output = node.outputs[0]
        assert self._output.dtype is not None
        self._dtype = self._output.dtype
        self._rank = 4 if node.op_type == "Conv" else (self._output.shape.rank() if self._output.shape else 3)

    def add(self, down: ir.Value, up: ir.Value, narrow: dict[tuple[str | None, int], ir.Value], first_in: int) -> None:
        """Adds up(down(x)) to the product's output, where x is what the product reads before it was quantized."""
        users = tuple(self._output.uses())
        read = unquantized(self._node.inputs[0])
        key = read.name, first_in
        if key not in narrow:
            narrow[key] = self._narrow(self._cast(read, "read"), self._cast(down, "down"))
        wide = self._wide(narrow[key], self._cast(up, "up"))
        outputs = [number for number, value in enumerate(self._graph.outputs) if value is self._output]
        total = self._op("Add", [self._output, wide], "sum", self._rank)
        total.shape = self._output.shape
        for user, place in users:
            user.replace_input_with(place, total)
        for number in outputs:
            total.name, self._output.name = self._output.name, f"{self._name}.plain"
            self._graph.outputs[number] = total

    def _narrow(self, read: ir.Value, down: ir.Value) -> ir.Value:
        """[..., in] to [..., rank]; of pixels [B, in, h, w] to [B, rank, h w]."""
        if self._node.op_type != "Conv":
            return self._op("MatMul", [read, down], "narrow", self._rank)
        flat = graph_io.add_initializer(self._graph, f"{self._name}.flat", np.array([0, 0, -1], np.int64))
        pixels = self._op("Reshape", [read, flat], "pixels", 3)
        turned = self._op("Transpose", [down], "down_turned", 2, perm=[1, 0])
        return self._op("MatMul", [turned, pixels], "narrow", 3)

    def _wide(self, narrow: ir.Value, up: ir.Value) -> ir.Value:
        if self._node.op_type != "Conv":
            return self._op("MatMul", [narrow, up], "wide", self._rank)
        turned = self._op("Transpose", [up], "up_turned", 2, perm=[1, 0])
        wide = self._op("MatMul", [turned, narrow], "wide", 3)
        shape = ir.Value(name=f"{self._name}.shape", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([4]))
        self._graph.append(ir.node("Shape", [self._output], outputs=[shape], name=f"node_{self._name}.shape"))
        return self._op("Reshape", [wide, shape], "image", 4)

    def _cast(self, value: ir.Value, name: str) -> ir.Value:
        """The value in the product's type."""
        if value.dtype == self._dtype:
            return value
        rank = 2 if value.shape is None else value.shape.rank()
        return self._op("Cast", [value], f"{name}.cast", rank, to=self._dtype)

    def _op(self, operator: str, inputs: Sequence[ir.Value], name: str, rank: int, **attributes: object) -> ir.Value:
        made = _value(f"{self._name}.{name}", self._dtype, rank)
        node = ir.node(operator, inputs, attributes, outputs=[made], name=f"node_{made.name}")  # type: ignore[arg-type]
        self._graph.append(node)
        return made


def _value(name: str, dtype: ir.DataType, rank: int) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape([None] * rank))
