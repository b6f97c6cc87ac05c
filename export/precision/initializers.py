"""Constants that a pass adds to a graph, and those that it leaves without a reader."""

import numpy as np
import onnx_ir as ir


def initializer(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    """A new constant of the graph."""
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
    graph.register_initializer(value)
    return value


def let_go(graph: ir.Graph, value: ir.Value) -> None:
    """Drops a constant that nothing reads any more."""
    assert not value.uses() and value.name is not None
    graph.initializers.pop(value.name)
