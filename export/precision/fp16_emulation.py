"""fp16 emulation: a float32 graph that computes on any machine what a device computes in float16, or in bfloat16.

ONNX Runtime's CPU computes a float16 graph in float32 and removes the casts between its nodes, so that neither rounding
nor overflow shows there. The emulation keeps the arithmetic of an operator in float32, as tensor cores do, and casts
every number that a node in half reads or writes to float16 and back.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import onnx_ir as ir

from ..graphs.graph_io import read_graph, write_graph
from .fp16 import refuse_subgraphs
from .fp16_nodes import Positions, follows, half_nodes
from .weight_rounding import fp16_emulated_tensor

FLOAT16, BFLOAT16 = ir.DataType.FLOAT16, ir.DataType.BFLOAT16
Round = Callable[[ir.Node, ir.Value], ir.Value]
"""Returns a value as a node in half reads or writes it: rounded."""


def emulate_graph(source: Path, target: Path, keep_fp32: Collection[str] = (), to: ir.DataType = FLOAT16) -> None:
    """Writes the float32 twin of what `fp16.to_fp16` makes of a graph; same arguments, same refusals.

    With `to` BFLOAT16 it is the twin of a float32 graph that a device computes in bfloat16.
    """
    model = read_graph(source)
    refuse_subgraphs(model, source)
    nodes = {node: found for node, found in half_nodes(model, keep_fp32).items() if not follows(node)}
    emulated: dict[ir.Value, ir.Value] = {}

    def once(node: ir.Node, value: ir.Value) -> ir.Value:
        if value not in emulated:
            stored = value.is_initializer() and to == FLOAT16
            out = _rounded_weight(model.graph, value) if stored else _cast_twice(node, value, to)
            emulated[value] = emulated[out] = out
        return emulated[value]

    insert_roundings(model, nodes, once)
    write_graph(model, target)


def insert_roundings(model: ir.Model, nodes: Mapping[ir.Node, Positions], emulated: Round) -> None:
    """Sends what these nodes read and write through `emulated`. Graph outputs keep their names."""
    for node, found in nodes.items():
        for i in found.inputs:
            value = node.inputs[i]
            assert value is not None
            node.replace_input_with(i, emulated(node, value))
        for i in found.outputs:
            value = node.outputs[i]
            uses = list(value.uses())
            name = value.name
            value.name = f"{name}.exact"
            out = emulated(node, value)
            out.name = name
            for user, position in uses:
                user.replace_input_with(position, out)
            for position, output in enumerate(model.graph.outputs):
                if output is value:
                    model.graph.outputs[position] = out


def insert_after(value: ir.Value, node: ir.Node, added: ir.Node) -> None:
    """Inserts `added`, which reads `value`, behind its producer, or before its reader `node`."""
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
    insert_after(value, node, back)
    back.prepend(ir.node("Cast", [value], {"to": to}, outputs=[half]))
    return single


def _rounded_weight(graph: ir.Graph, value: ir.Value) -> ir.Value:
    assert value.const_value is not None
    out = ir.Value(name=f"{value.name}.rounded", shape=value.shape, type=ir.TensorType(ir.DataType.FLOAT))
    out.const_value = fp16_emulated_tensor(value.const_value, f"{value.name}.rounded")
    graph.register_initializer(out)
    return out
