"""Tables that a graph reads by rows: int8 rows and a scale for each, so that no run ever sees the table whole."""

import onnx_ir as ir

from .initializers import initializer, let_go
from .weight_rounding import rounded_rows


def is_table(value: ir.Value) -> bool:
    """Whether a constant is a matrix of numbers whose rows, and nothing else, are read."""
    tensor = value.const_value
    if tensor is None or len(tensor.shape) != 2 or tensor.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
        return False
    return not value.is_graph_output() and all(_reads_rows(node, index) for node, index in value.uses())


def store_rows(graph: ir.Graph, table: ir.Value) -> None:
    """Replaces a table [V, D] in place: both the rows and their scales are gathered, then multiplied."""
    tensor = table.const_value
    assert tensor is not None and table.name is not None
    values, scale = rounded_rows(tensor.numpy())
    rows = initializer(graph, f"{table.name}.int8", values)
    scales = initializer(graph, f"{table.name}.scale", scale)
    for node, _ in tuple(table.uses()):
        _replace(graph, node, rows, scales, tensor.dtype)
    let_go(graph, table)


def _reads_rows(node: ir.Node, index: int) -> bool:
    axis = node.attributes.get("axis")
    return node.domain == "" and node.op_type == "Gather" and index == 0 and (axis is None or axis.as_int() == 0)


def _replace(graph: ir.Graph, gather: ir.Node, rows: ir.Value, scales: ir.Value, dtype: ir.DataType) -> None:
    (output,) = gather.outputs
    name, ids = output.name, gather.inputs[1]
    row = _named("Gather", [rows, ids], f"{name}.rows", axis=0)
    scale = _named("Gather", [scales, ids], f"{name}.row_scales", axis=0)
    cast = _named("Cast", [row.outputs[0]], f"{name}.cast", to=dtype.value)
    scaled = _named("Mul", [cast.outputs[0], scale.outputs[0]], f"{name}.scaled")
    for node in (row, scale, cast, scaled):
        node.metadata_props.update(gather.metadata_props)
        graph.insert_before(gather, node)
    (product,) = scaled.outputs
    product.shape, product.type = output.shape, output.type
    output.replace_all_uses_with(product, replace_graph_outputs=True)
    graph.remove(gather, safe=True)
    product.name = name


def _named(operator: str, inputs: list[ir.Value | None], name: str, **attributes: int) -> ir.Node:
    node = ir.node(operator, inputs, attributes, name=name)
    node.outputs[0].name = name
    return node
