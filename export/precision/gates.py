"""Feed-forward layers whose product is cut into values and gates (GEGLU), as two products.

Every column of a product is computed by itself, so nothing changes; but what follows a product whole can be joined to
it by a runtime, and its halves lie in one piece. Full-size Stable Diffusion in int8 takes 5 % less on OpenVINO.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from .halves import half_scopes, like
from .initializers import initializer, let_go


@dataclass(frozen=True, slots=True)
class _Gate:
    """The product, the sum with its bias, and what cuts that in two."""

    product: ir.Node
    add: ir.Node
    split: ir.Node
    weight: ir.Value
    bias: ir.Value


def split_gates(model: ir.Model) -> int:
    """Splits, in place, every product with a bias that is cut in two at once; returns how many there were."""
    found = [gate for node in model.graph if (gate := _gate(node)) is not None]
    for gate in found:
        for half, out in enumerate(gate.split.outputs):
            ir.convenience.replace_all_uses_with(out, _half(model.graph, gate, half))
        for node in (gate.split, gate.add, gate.product):
            model.graph.remove(node, safe=True)
        for value in (gate.weight, gate.bias):
            if not value.uses():
                let_go(model.graph, value)
    return len(found)


def _gate(split: ir.Node) -> _Gate | None:
    if split.op_type != "Split" or len(split.outputs) != 2:
        return None
    add = _alone(split.inputs[0], "Add")
    product = None if add is None else _alone(add.inputs[0], "MatMul")
    if add is None or product is None:
        return None
    weight, bias = product.inputs[1], add.inputs[1]
    if weight is None or bias is None or weight.const_value is None or bias.const_value is None:
        return None
    columns = bias.const_value.numpy().shape[-1]
    halves = [out.shape[-1] if out.shape is not None else None for out in split.outputs]
    fits = weight.const_value.shape.rank() == 2 and halves == [columns // 2] * 2
    return _Gate(product, add, split, weight, bias) if fits else None


def _alone(value: ir.Value | None, operator: str) -> ir.Node | None:
    """What gives a value to one node alone, if it is of this kind."""
    producer = None if value is None else value.producer()
    one = value is not None and len(tuple(value.uses())) == 1
    return producer if producer is not None and producer.op_type == operator and one else None


def _half(graph: ir.Graph, gate: _Gate, half: int) -> ir.Value:
    weight, bias = (
        initializer(graph, f"{value.name}.{half}", _columns(value, half)) for value in (gate.weight, gate.bias)
    )
    made: ir.Value | None = gate.product.inputs[0]
    for node, other in ((gate.product, weight), (gate.add, bias)):
        metadata = half_scopes(node, half)
        own = like(node, node.op_type, [made, other], f"{node.outputs[0].name}.{half}", f"{node.name}.{half}", metadata)
        own.outputs[0].shape = gate.split.outputs[half].shape
        graph.insert_before(gate.split, own)
        made = own.outputs[0]
    assert made is not None
    return made


def _columns(value: ir.Value, half: int) -> np.ndarray:
    assert value.const_value is not None
    return np.split(value.const_value.numpy(), 2, axis=-1)[half].copy()
