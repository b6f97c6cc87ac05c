"""float16 written into a graph: weights, types and the casts between nodes in half and nodes in float32."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from ..errors import PlanError
from ..graphs.graph_io import read_graph, write_graph
from .fp16_nodes import Positions, half_nodes, reads_either
from .weight_rounding import HALF, SINGLE, fp16_tensor

SUFFIX = {HALF: "half", SINGLE: "single"}


@dataclass(frozen=True, slots=True)
class Fp16Result:
    """A graph in mixed precision, by numbers.

    `excluded` names the parts that stay in float32. `half` counts nodes in float16, `single` nodes in float32 by
    operator, `casts` the casts that were added.
    """

    excluded: tuple[str, ...]
    half: int
    single: dict[str, int]
    casts: int


def to_fp16(source: Path, target: Path, keep_fp32: Collection[str] = ()) -> Fp16Result:
    """Writes a float32 graph in mixed float16 and float32 to `target`.

    `keep_fp32` names parts that stay in float32, by path or pattern; a name that fits no part has no effect. Inputs and
    outputs stay float32. Raises PlanError for a graph with branches or loops.
    """
    model = read_graph(source)
    refuse_subgraphs(model, source)
    half = half_nodes(model, keep_fp32)
    computing = [node for node in model.graph if any(value.dtype == SINGLE for value in node.outputs)]
    single = Counter(node.op_type for node in computing if node not in half)
    before = len(model.graph)
    convert_to_fp16(model, half)
    write_graph(model, target)
    return Fp16Result(
        tuple(keep_fp32), len(computing) - single.total(), dict(sorted(single.items())), len(model.graph) - before
    )


def refuse_subgraphs(model: ir.Model, source: Path) -> None:
    """Raises PlanError for a graph with branches or loops, whose bodies the passes would not see."""
    held = sorted({n.op_type for n in model.graph for a in n.attributes.values() if a.type in _SUBGRAPHS})
    if held:
        raise PlanError(
            f"{source}: expected a graph without branches and loops for half precision, got {', '.join(held)}; "
            "export it with fp32"
        )


_SUBGRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


def convert_to_fp16(model: ir.Model, half: Mapping[ir.Node, Positions]) -> None:
    """Types the values of a float32 model by the nodes in half and casts between them, each value once at most."""
    graph = model.graph
    wanted = {
        (node, i): HALF if node in half and i in half[node].inputs else SINGLE for node, i in _single_inputs(graph)
    }
    for node, found in half.items():
        for i in found.outputs:
            node.outputs[i].dtype = HALF
        if node.op_type == "Cast" and found.outputs:
            node.attributes["to"] = ir.AttrInt64("to", HALF)
    casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
    for weight in list(graph.initializers.values()):
        _fp16_weight(graph, weight, {wanted[use] for use in weight.uses() if use in wanted}, casts)
    for (node, i), kind in wanted.items():
        value = node.inputs[i]
        assert value is not None
        if value.dtype != kind:
            if (value, kind) not in casts:
                casts[value, kind] = _cast_before(graph, node, value, kind)
            node.replace_input_with(i, casts[value, kind])
    for i, output in enumerate(graph.outputs):
        if output.dtype == HALF:
            graph.outputs[i] = _cast_output(graph, output)


def _single_inputs(graph: ir.Graph) -> list[tuple[ir.Node, int]]:
    return [
        (node, i)
        for node in graph
        if not reads_either(node)
        for i, value in enumerate(node.inputs)
        if value is not None and value.dtype == SINGLE
    ]


def _fp16_weight(
    graph: ir.Graph, value: ir.Value, kinds: set[ir.DataType], casts: dict[tuple[ir.Value, ir.DataType], ir.Value]
) -> None:
    """Turns a weight to float16, or gives it a float16 twin where nodes in float32 read it too."""
    if HALF not in kinds:
        return
    assert value.const_value is not None and value.name is not None
    if SINGLE in kinds:
        twin = ir.Value(name=f"{value.name}.half", shape=value.shape, type=ir.TensorType(HALF))
        twin.const_value = fp16_tensor(value.const_value, f"{value.name}.half")
        graph.register_initializer(twin)
        casts[value, HALF] = twin
    else:
        value.const_value = fp16_tensor(value.const_value, value.name)
        value.dtype = HALF


def _cast_before(graph: ir.Graph, node: ir.Node, value: ir.Value, kind: ir.DataType) -> ir.Value:
    name = f"{value.name}.{SUFFIX[kind]}"
    out = ir.Value(name=name, shape=value.shape, type=ir.TensorType(kind))
    scopes = dict(node.metadata_props)
    cast = ir.node("Cast", [value], {"to": kind}, outputs=[out], name=f"cast.{name}", metadata_props=scopes)
    graph.insert_before(node, cast)
    return out


def _cast_output(graph: ir.Graph, value: ir.Value) -> ir.Value:
    """The float32 output of a graph, by the name that the value in half gives up."""
    name = value.name
    value.name = f"{name}.half"
    out = ir.Value(name=name, shape=value.shape, type=ir.TensorType(SINGLE))
    producer = value.producer()
    assert producer is not None
    scopes = dict(producer.metadata_props)
    graph.append(ir.node("Cast", [value], {"to": SINGLE}, outputs=[out], name=f"cast.{name}", metadata_props=scopes))
    return out
