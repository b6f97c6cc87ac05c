"""Convolutions over a skip connection, split so that each half has its own scale.

A U-Net joins what comes from below with what was kept on the way down; the two differ in range, and one scale for both
leaves few levels to the smaller. A convolution is linear in its channels, so conv(join(a, b)) = conv_a(a) + conv_b(b)
exactly. Source: the split quantizers of Q-Diffusion (arXiv 2302.04304).
"""

from itertools import accumulate

import onnx_ir as ir

from .halves import half_scopes, like
from .initializers import initializer, let_go


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
        own = initializer(graph, f"{weight.name}.{i}", kernel[:, start:end].copy())
        # The bias is added once.
        inputs = [value, own, *(node.inputs[2:] if i == 0 else ())]
        half = like(node, "Conv", inputs, f"{node.outputs[0].name}.{i}", f"{node.name}.{i}", half_scopes(node, i))
        half.attributes.update(node.attributes)
        graph.insert_before(node, half)
        if total is None:
            total = half.outputs[0]
            continue
        name = f"{node.outputs[0].name}.sum{i}"
        added = like(node, "Add", [total, half.outputs[0]], name, f"{node.name}.sum{i}", dict(node.metadata_props))
        graph.insert_before(node, added)
        total = added.outputs[0]
    assert total is not None
    ir.convenience.replace_all_uses_with(node.outputs[0], total, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    if not weight.uses():
        let_go(graph, weight)
