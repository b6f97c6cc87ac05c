"""What a device in half would compute, on any machine: a float32 graph that rounds to float16 where `half` would, or to
bfloat16 in the same places.

ONNX Runtime's CPU takes a float16 graph and computes it in float32, overflows and all, because it drops the casts that
it puts in itself. Such a graph proves nothing there. The twin keeps the arithmetic of an operator in float32, as tensor
cores do, and sends every number that a node in half reads or writes through float16.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import onnx_ir as ir

from ..graphs.graph_io import read_graph, write_graph
from .fp16 import refuse_subgraphs
from .fp16_nodes import Positions, follows, half_nodes
from .weight_rounding import rounded_tensor

FLOAT16, BFLOAT16 = ir.DataType.FLOAT16, ir.DataType.BFLOAT16
Round = Callable[[ir.Node, ir.Value], ir.Value]
"""Gives a value as one node in half reads or writes it."""


def emulate_graph(source: Path, target: Path, keep: Collection[str] = (), to: ir.DataType = FLOAT16) -> None:
    """Writes the float32 twin of what `half.rewrite` makes of a graph; same arguments, same refusals.

    With `to` BFLOAT16 it is the twin of a float32 graph that a device computes in bfloat16.
    """
    model = read_graph(source)
    refuse_subgraphs(model, source)
    nodes = {node: found for node, found in half_nodes(model, keep).items() if not follows(node)}
    rounded: dict[ir.Value, ir.Value] = {}

    def once(node: ir.Node, value: ir.Value) -> ir.Value:
        if value not in rounded:
            stored = value.is_initializer() and to == FLOAT16
            out = _weight(model.graph, value) if stored else _cast_twice(node, value, to)
            rounded[value] = rounded[out] = out
        return rounded[value]

    put_roundings(model, nodes, once)
    write_graph(model, target)


def put_roundings(model: ir.Model, nodes: Mapping[ir.Node, Positions], rounded: Round) -> None:
    """Sends what these nodes read and write through `rounded`. Graph outputs keep their names."""
    for node, found in nodes.items():
        for i in found.inputs:
            value = node.inputs[i]
            assert value is not None
            node.replace_input_with(i, rounded(node, value))
        for i in found.outputs:
            value = node.outputs[i]
            uses = list(value.uses())
            name = value.name
            value.name = f"{name}.exact"
            out = rounded(node, value)
            out.name = name
            for user, position in uses:
                user.replace_input_with(position, out)
            for position, output in enumerate(model.graph.outputs):
                if output is value:
                    model.graph.outputs[position] = out


def after(value: ir.Value, node: ir.Node, added: ir.Node) -> None:
    """Puts a node that reads `value` behind what computes it, or before `node`, which reads it, if it is given."""
    graph, producer = node.graph, value.producer()
    assert isinstance(graph, ir.Graph)
    if producer is None:
        graph.insert_before(node, added)
    else:
        graph.insert_after(producer, added)


def _cast_twice(node: ir.Node, value: ir.Value, to: ir.DataType) -> ir.Value:
    half = ir.Value(name=f"{value.name}.half", shape=value.shape, type=ir.TensorType(to))
    single = ir.Value(name=f"{value.name}.rounded", shape=value.shape, type=ir.TensorType(ir.DataType.FLOAT))
    back = ir.node("Cast", [half], {"to": ir.DataType.FLOAT}, outputs=[single])
    after(value, node, back)
    back.prepend(ir.node("Cast", [value], {"to": to}, outputs=[half]))
    return single


def _weight(graph: ir.Graph, value: ir.Value) -> ir.Value:
    assert value.const_value is not None
    out = ir.Value(name=f"{value.name}.rounded", shape=value.shape, type=ir.TensorType(ir.DataType.FLOAT))
    out.const_value = rounded_tensor(value.const_value, f"{value.name}.rounded")
    graph.register_initializer(out)
    return out
