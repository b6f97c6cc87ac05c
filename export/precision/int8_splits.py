"""Layers split in halves before int8, so that each half has its own scale: skip connections and gated feed-forwards."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import onnx_ir as ir

from ..graphs.graph_io import add_initializer, remove_initializer
from ..graphs.part_names import SCOPES, scopes_of


def clone_node(
    node: ir.Node, operator: str, inputs: Sequence[ir.Value | None], out: str, name: str, metadata: dict[str, str]
) -> ir.Node:
    """A node with the output type of another."""
    value = ir.Value(name=out, shape=node.outputs[0].shape, type=node.outputs[0].type)
    return ir.node(operator, inputs, outputs=[value], name=name, metadata_props=metadata)


def half_scopes(node: ir.Node, half: int) -> dict[str, str]:
    """The node's metadata, its module path one word longer: the half's number."""
    scopes = scopes_of(node)
    if not scopes:
        return {}
    *modules, operation = scopes
    parent = f"{modules[-1]}." if modules else ""
    return {SCOPES: repr([*modules, f"{parent}{half}", operation])}


def split_shortcuts(model: ir.Model) -> int:
    """Splits, in place, every convolution whose input is a join of channels; returns how many there were."""
    found = [node for node in model.graph if _is_over_join(node)]
    for node in found:
        _split(model.graph, node)
    return len(found)


def _is_over_join(node: ir.Node) -> bool:
    if node.op_type != "Conv" or node.domain not in ("", "ai.onnx") or node.attributes.get_int("group", 1) != 1:
        return False
    joined, weight = node.inputs[:2]
    assert joined is not None and weight is not None
    join = joined.producer()
    if join is None or join.op_type != "Concat" or join.attributes.get_int("axis") not in (1, -3):
        return False
    return weight.const_value is not None and all(_channels(value) is not None for value in join.inputs)


def _channels(value: ir.Value | None) -> int | None:
    """The size of a value's second axis, where it is known."""
    if value is None or value.shape is None or value.shape.rank() != 4:
        return None
    channels = value.shape[1]
    return channels if isinstance(channels, int) else None


def _split(graph: ir.Graph, node: ir.Node) -> None:
    joined, weight = node.inputs[:2]
    assert joined is not None and weight is not None and weight.const_value is not None
    join = joined.producer()
    assert join is not None
    ends = list(accumulate(_channels(value) or 0 for value in join.inputs))
    kernel = weight.const_value.numpy()
    assert ends[-1] == kernel.shape[1]
    total: ir.Value | None = None
    for i, (value, start, end) in enumerate(zip(join.inputs, [0, *ends], ends, strict=False)):
        own = add_initializer(graph, f"{weight.name}.{i}", kernel[:, start:end].copy())
        # The bias is added once.
        inputs = [value, own, *(node.inputs[2:] if i == 0 else ())]
        half = clone_node(node, "Conv", inputs, f"{node.outputs[0].name}.{i}", f"{node.name}.{i}", half_scopes(node, i))
        half.attributes.update(node.attributes)
        graph.insert_before(node, half)
        if total is None:
            total = half.outputs[0]
            continue
        name = f"{node.outputs[0].name}.sum{i}"
        added = clone_node(
            node, "Add", [total, half.outputs[0]], name, f"{node.name}.sum{i}", dict(node.metadata_props)
        )
        graph.insert_before(node, added)
        total = added.outputs[0]
    assert total is not None
    ir.convenience.replace_all_uses_with(node.outputs[0], total, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    if not weight.uses():
        remove_initializer(graph, weight)


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
            ir.convenience.replace_all_uses_with(out, _gate_half(model.graph, gate, half))
        for node in (gate.split, gate.add, gate.product):
            model.graph.remove(node, safe=True)
        for value in (gate.weight, gate.bias):
            if not value.uses():
                remove_initializer(model.graph, value)
    return len(found)


def _gate(split: ir.Node) -> _Gate | None:
    if split.op_type != "Split" or len(split.outputs) != 2:
        return None
    add = _gate_alone(split.inputs[0], "Add")
    product = None if add is None else _gate_alone(add.inputs[0], "MatMul")
    if add is None or product is None:
        return None
    weight, bias = product.inputs[1], add.inputs[1]
    if weight is None or bias is None or weight.const_value is None or bias.const_value is None:
        return None
    columns = bias.const_value.numpy().shape[-1]
    halves = [out.shape[-1] if out.shape is not None else None for out in split.outputs]
    fits = weight.const_value.shape.rank() == 2 and halves == [columns // 2] * 2
    return _Gate(product, add, split, weight, bias) if fits else None


def _gate_alone(value: ir.Value | None, operator: str) -> ir.Node | None:
    """What gives a value to one node alone, if it is of this kind."""
    producer = None if value is None else value.producer()
    one = value is not None and len(tuple(value.uses())) == 1
    return producer if producer is not None and producer.op_type == operator and one else None


def _gate_half(graph: ir.Graph, gate: _Gate, half: int) -> ir.Value:
    weight, bias = (
        add_initializer(graph, f"{value.name}.{half}", _columns(value, half)) for value in (gate.weight, gate.bias)
    )
    made: ir.Value | None = gate.product.inputs[0]
    for node, other in ((gate.product, weight), (gate.add, bias)):
        metadata = half_scopes(node, half)
        own = clone_node(
            node, node.op_type, [made, other], f"{node.outputs[0].name}.{half}", f"{node.name}.{half}", metadata
        )
        own.outputs[0].shape = gate.split.outputs[half].shape
        graph.insert_before(gate.split, own)
        made = own.outputs[0]
    assert made is not None
    return made


def _columns(value: ir.Value, half: int) -> np.ndarray:
    assert value.const_value is not None
    return np.split(value.const_value.numpy(), 2, axis=-1)[half].copy()
