"""Which nodes of a float32 graph work in float16, by what their operators compute."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from ..graphs.own_operators import own_operator
from ..graphs.part_names import is_under, path_of
from .weight_rounding import ROUNDING_LIMIT, rounding_error

SUMS_AND_POWERS = frozenset(
    {
        "CumSum",
        "Exp",
        "GlobalAveragePool",
        "GroupNormalization",
        "InstanceNormalization",
        "Log",
        "LpNormalization",
        "MeanVarianceNormalization",
        "Pow",
        "Reciprocal",
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceMean",
        "ReduceProd",
        "ReduceSum",
        "ReduceSumSquare",
        "Sqrt",
    }
)
"""Operators that stay in float32: ONNX does not promise them sums in float32, as it does for LayerNormalization, and
squares of ordinary activations pass 65504."""
LEADS_IN = {"Sin": 0, "Cos": 0, "Tan": 0, "Log": 1}
"""Operators that stay in float32 with what leads to their argument, through so many layers on the way.

Sinusoids: near 1000 float16 has steps of 0.5, and a whole turn is 6.28. Logarithms turn the relative error of a small
number into an absolute error of any size, and behind a spectrogram many numbers are small differences of sums. Measured
on a spoken word with the spectrogram in half: AudioCLIP's features are off by 0.35 of their spread, by 0.67 at a tenth
of the volume; with the spectrogram in float32 by 0.003 and 0.005.
"""
LAYERS = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose", "LayerNormalization", "Softmax", "Einsum"})
"""Operators that count as a layer on the way to an argument; all others are arithmetic."""
EXACT = frozenset(
    {
        "Abs",
        "Cast",
        "CastLike",
        "Clip",
        "Compress",
        "Concat",
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "GatherElements",
        "GatherND",
        "Identity",
        "Max",
        "MaxPool",
        "Min",
        "Neg",
        "Pad",
        "ReduceMax",
        "ReduceMin",
        "Relu",
        "Reshape",
        "ScatterElements",
        "ScatterND",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Trilu",
        "Unsqueeze",
        "Where",
    }
)
"""Operators that move or select numbers and round none."""


@dataclass(frozen=True, slots=True)
class Positions:
    """The inputs and outputs of one node that are float16 where the node works in half."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def positions(node: ir.Node, opset: int) -> Positions | None:
    """The positions of a node that may be float16; None where its operator has no float16 or is a foreign one."""
    inputs = [i for i, value in enumerate(node.inputs) if _is_single(value)]
    outputs = [i for i, value in enumerate(node.outputs) if _is_single(value)]
    if (own := own_operator(node)) is not None:
        return Positions(tuple(i for i in inputs if own.inputs[i] not in own.in_single), tuple(outputs))
    # The type of some outputs is an attribute's.
    if node.domain not in ("", "ai.onnx") or "dtype" in node.attributes or node.op_type == "ConstantOfShape":
        return None
    schema = onnx.defs.get_schema(node.op_type, opset)
    halves = {c.type_param_str for c in schema.type_constraints if "tensor(float16)" in c.allowed_type_strs}
    if any(_formal(schema.outputs, i).type_str not in halves for i in outputs):
        return None
    if node.op_type == "LayerNormalization" and len(outputs) > 1:
        return None
    return Positions(tuple(i for i in inputs if _formal(schema.inputs, i).type_str in halves), tuple(outputs))


def half_nodes(model: ir.Model, keep_fp32: Collection[str] = ()) -> dict[ir.Node, Positions]:
    """The nodes that work in half, without those under the names in `keep_fp32`."""
    able = _able(model)
    rounding = {n: found for n, found in able.items() if not follows(n) and not is_under(path_of(n), keep_fp32)}
    return rounding | _followers(model, able, rounding)


def rounding_nodes(model: ir.Model) -> dict[ir.Node, Positions]:
    """The nodes of `half_nodes(model)` that round what they compute: those between which a search can choose."""
    return {node: found for node, found in _able(model).items() if not follows(node)}


def follows(node: ir.Node) -> bool:
    """Whether a node rounds nothing."""
    nearest = node.op_type == "Resize" and node.attributes.get_string("mode", "nearest") == "nearest"
    return node.op_type in EXACT or nearest or not any(_is_single(value) for value in node.outputs)


def _able(model: ir.Model) -> dict[ir.Node, Positions]:
    """The nodes that no rule keeps in float32."""
    opset = model.opset_imports[""]
    single = _arguments(model.graph) | _damaged(model.graph)
    free = [node for node in model.graph if node.op_type not in SUMS_AND_POWERS and node not in single]
    return {node: found for node in free if (found := positions(node, opset)) is not None}


def _damaged(graph: ir.Graph) -> set[ir.Node]:
    """Nodes that read a weight which loses more than ROUNDING_LIMIT by rounding."""
    damaged: set[ir.Node] = set()
    for value in graph.initializers.values():
        weight = value.const_value
        if weight is not None and _is_single(value) and rounding_error(weight.numpy()) > ROUNDING_LIMIT:
            damaged |= {node for node, _ in value.uses()}
    return damaged


def _arguments(graph: ir.Graph) -> set[ir.Node]:
    """The nodes of LEADS_IN and all that leads to their arguments."""
    left: dict[ir.Node, int] = {}
    waiting = [(node, LEADS_IN[node.op_type]) for node in graph if node.op_type in LEADS_IN]
    while waiting:
        node, layers = waiting.pop()
        layers -= node.op_type in LAYERS
        if layers >= 0 and layers > left.get(node, -1):
            left[node] = layers
            makers = [value.producer() for value in node.inputs if value is not None and _is_single(value)]
            waiting += [(maker, layers) for maker in makers if maker is not None]
    return set(left)


def _followers(
    model: ir.Model, able: Mapping[ir.Node, Positions], rounding: Mapping[ir.Node, Positions]
) -> dict[ir.Node, Positions]:
    """The exact nodes that work in half, by what is around them; True stands for half, False for float32."""
    exact = {node: found for node, found in able.items() if follows(node)}
    sources: dict[ir.Value, set[bool]] = {value: {False} for value in model.graph.inputs}
    for node in model.graph:
        kinds = {node in rounding}
        if node in exact:
            kinds = {k for value in _float_inputs(node, exact) for k in sources.get(value, set())}
        for value in node.outputs:
            sources[value] = kinds
    sinks: dict[ir.Value, set[bool]] = {value: {False} for value in model.graph.outputs}
    for node in reversed(model.graph):
        wanted = {k for value in node.outputs for k in sinks.get(value, set())}
        for i, source in enumerate(node.inputs):
            if source is not None and not reads_either(node):
                half = node in rounding and i in rounding[node].inputs
                sinks.setdefault(source, set()).update(wanted if node in exact else {half})
    halves = {}
    for node, found in exact.items():
        read = {k for value in _float_inputs(node, exact) for k in sources.get(value, set())}
        wanted = {k for value in node.outputs for k in sinks.get(value, set())}
        if not _stays_single(read, wanted, bool(found.outputs)):
            halves[node] = found
    return halves


def _stays_single(read: set[bool], wanted: set[bool], has_outputs: bool) -> bool:
    """Whether an exact node is better left in float32, by the halves (True) and singles that it reads and feeds."""
    if not has_outputs:
        return False in read
    if not read:
        return wanted == {False}
    return (read == {False} and False in wanted) or (False in read and wanted == {False})


def reads_either(node: ir.Node) -> bool:
    """Whether a node takes its one float input as it comes, as Shape does."""
    return follows(node) and not any(map(_is_single, node.outputs)) and sum(map(_is_single, node.inputs)) == 1


def _float_inputs(node: ir.Node, exact: Mapping[ir.Node, Positions]) -> Iterator[ir.Value]:
    for i in exact[node].inputs:
        value = node.inputs[i]
        if value is not None and not value.is_initializer():
            yield value


def _is_single(value: ir.Value | None) -> bool:
    return value is not None and value.dtype == ir.DataType.FLOAT


def _formal(formals: Sequence[onnx.defs.OpSchema.FormalParameter], i: int) -> onnx.defs.OpSchema.FormalParameter:
    """The declaration of the i-th value; the last one may repeat."""
    return formals[min(i, len(formals) - 1)]
