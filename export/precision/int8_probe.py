"""One session that computes a denoiser with any of its layers in int8: the Q/DQ pairs of each are switched by an input.

Opening a session for every layer would take minutes on a full-size denoiser. The switched form computes what Q/DQ mean,
in float32; sessions that run them on integers differ from it by the order of sums.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ..graphs.graph_io import add_initializer
from ..graphs.graph_runs import Arrays, InMemory, prediction
from .int8_layers import Layer

SWITCH = "quantized"


class Int8Probe:
    """A denoiser whose `layers` are in int8 where a call names them. `quantized` is the model in int8, `single` the
    float32 one whose weights the others read; `folder` is where external weights lie. The models are changed."""

    def __init__(self, quantized: ir.Model, single: ir.Model, layers: Sequence[Layer], folder: Path):
        self.layers = tuple(layers)
        nodes = {node.name: node for node in quantized.graph}
        switch = ir.Value(name=SWITCH, shape=ir.Shape([len(layers)]), type=ir.TensorType(ir.DataType.BOOL))
        quantized.graph.inputs.append(switch)
        for number, layer in enumerate(layers):
            _put_switch(quantized.graph, nodes[layer.node], single.graph.initializers[layer.weight], switch, number)
        # Folding would hold every weight in float32 a second time.
        self._run = InMemory(quantized, folder, folded=False)

    def __call__(self, inputs: Arrays, paths: Collection[str]) -> np.ndarray:
        """The prediction with the layers of these paths in int8."""
        switches = np.array([layer.path in paths for layer in self.layers])
        return prediction(self._run(inputs | {SWITCH: switches}))


def _put_switch(graph: ir.Graph, node: ir.Node, weight: ir.Value, switch: ir.Value, number: int) -> None:
    """Lets a layer read the float32 forms of its two inputs unless its number is switched on."""
    index = add_initializer(graph, f"{SWITCH}.{number}", np.array(number))
    on = _before(node, "Gather", [switch, index], f"{SWITCH}.{number}.on", ir.DataType.BOOL)
    activation, integers = node.inputs[:2]
    assert activation is not None and integers is not None
    single = _copy_weight(graph, weight)
    for i, (inexact, exact) in enumerate(((activation, _behind(activation)), (integers, single))):
        chosen = _before(node, "Where", [on, inexact, exact], f"{SWITCH}.{number}.{i}", ir.DataType.FLOAT)
        node.replace_input_with(i, chosen)


def _behind(dequantized: ir.Value) -> ir.Value:
    """What a Q/DQ pair reads."""
    pair = dequantized.producer()
    assert pair is not None and pair.inputs[0] is not None
    first = pair.inputs[0].producer()
    assert first is not None and first.inputs[0] is not None
    return first.inputs[0]


def _copy_weight(graph: ir.Graph, weight: ir.Value) -> ir.Value:
    """The weight of another graph in this one, which keeps it only where not all its readers are in int8."""
    assert weight.name is not None and weight.const_value is not None
    if weight.name not in graph.initializers:
        own = ir.Value(name=weight.name, shape=weight.shape, type=weight.type, const_value=weight.const_value)
        graph.register_initializer(own)
    return graph.initializers[weight.name]


def _before(node: ir.Node, operator: str, inputs: list[ir.Value | None], name: str, kind: ir.DataType) -> ir.Value:
    made = ir.node(operator, inputs, outputs=[ir.Value(name=name, type=ir.TensorType(kind))], name=name)
    assert node.graph is not None
    node.graph.insert_before(node, made)
    return made.outputs[0]
