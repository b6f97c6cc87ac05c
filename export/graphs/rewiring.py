"""What variants of a graph are cut with: casts, what lies before a quantization, the removal of what is left."""

import onnx_ir as ir
from onnx_ir.passes import common


def cast_value(graph: ir.Graph, value: ir.Value, name: str, dtype: ir.DataType) -> ir.Value:
    """The value in another type, under a name of its own."""
    out = ir.Value(name=name, type=ir.TensorType(dtype), shape=value.shape)
    graph.append(ir.node("Cast", [value], attributes={"to": dtype}, outputs=[out], name=f"node_{name}"))
    return out


def unquantized(value: ir.Value | None) -> ir.Value:
    """The value before its Q/DQ pairs, as float layers read it: what is cut behind them would leave layers in int8
    without their input."""
    assert value is not None
    producer = value.producer()
    while producer is not None and producer.op_type in ("DequantizeLinear", "QuantizeLinear"):
        value = producer.inputs[0]
        assert value is not None
        producer = value.producer()
    return value


def prune(model: ir.Model) -> None:
    """Drops nodes, constants, functions and inputs that no output needs."""
    # The pass goes backwards once: what was added last must first be where it belongs.
    model.graph.sort()
    common.RemoveUnusedNodesPass()(model)
    common.RemoveUnusedFunctionsPass()(model)
    for value in [value for value in model.graph.inputs if not value.uses()]:
        model.graph.inputs.remove(value)
