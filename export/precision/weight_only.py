"""Weights stored in 8 or 4 bits, computed with as they were: for encoders that are large and run once a picture."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from ..errors import PlanError
from ..graphs.graph_io import add_initializer, read_graph, remove_initializer, write_graph
from ..graphs.part_names import check_names, is_under, path_of, shortest_names
from .weight_rounding import is_table, rounded_blocks, rounded_columns, store_rows

SMALLEST_WEIGHT_NUMBERS = 1 << 18
"""Numbers in a weight below which it stays as it is: a megabyte in float32, of which 8 bits save three quarters. All
weights of the encoders worth storing so (768 x 768 and up) are larger; all others together are not worth an error."""
SMALLEST_BLOCK_CHANNELS = 16
"""Input channels that share a scale, at least: below, the scales are a fourth of what 4 bits take."""
EXTERNAL_FROM_BYTES = 1 << 26
"""Weights above this leave the ONNX file: sessions map them from there, and read of a table's pages what they need.

Measured on XLM-R-large in 8 bits, 0.56 GB: OpenVINO takes 0.37 GB of memory of its own so, and 0.88 GB otherwise; ONNX
Runtime 0.71 and 0.99 GB."""
OPSET_4_BITS = 21
"""Brings 4-bit integers and DequantizeLinear's blocks. 8 bits stay at the graph's own opset with a scale for each
output channel: blocks of 128 measured no better there (0.0090 against 0.0094 on the embedded CLIP's context)."""
ONLY_MORE_TYPES = {
    *("Cast", "CastLike", "Constant", "ConstantOfShape", "DequantizeLinear", "Flatten", "Identity", "If", "Loop"),
    *("Pad", "QuantizeLinear", "Reshape", "Scan", "Shape", "Size", "Squeeze", "Transpose", "Unsqueeze"),
}
"""Operators whose version 21 takes further types and is otherwise version 20's."""


@dataclass(frozen=True, slots=True)
class WeightOnlyResult:
    """What became of a graph: weights and tables rewritten by name, parts whose weights stay, bytes of constants."""

    weights: tuple[str, ...]
    tables: tuple[str, ...]
    excluded: tuple[str, ...]
    bytes_before: int
    bytes_after: int


def to_weight_only(
    source: Path,
    target: Path,
    bits: int,
    block: int = 128,
    keep_fp32: Collection[str] = (),
    smallest: int = SMALLEST_WEIGHT_NUMBERS,
) -> WeightOnlyResult:
    """Writes a graph whose MatMul and Gemm weights, and the tables it reads by rows, are stored in integers.

    `bits` is 8, or 4 with a scale for each `block` input channels, fewer where they do not divide; tables take 8 bits
    in either. `keep_fp32` names parts whose weights stay, as do all of fewer than `smallest` numbers. The graph is in
    float32 or mixed with float16: a weight's scale and product have the weight's own type. Raises PlanError for 4 bits
    of a graph that opset 21 would change, and for names that fit nothing.
    """
    assert bits in (4, 8) and block >= SMALLEST_BLOCK_CHANNELS
    model = read_graph(source)
    graph = model.graph
    before = _bytes(graph)
    if bits == 4:
        _raise_opset(model, source)
    products = {value: paths for value in _constants(graph) if (paths := _multiplies(value))}
    tables = {value: [path_of(node) for node, _ in value.uses()] for value in _constants(graph) if is_table(value)}
    candidates = products | tables
    check_names(keep_fp32, list(chain(*candidates.values())))
    left = [value for value, paths in candidates.items() if _stays(value, paths, keep_fp32, smallest)]
    left += [value for value in products if value not in left and bits == 4 and not _fitting_block(value, block)]
    names = {value: value.name or "" for value in candidates if value not in left}
    for value in names:
        if value in tables:
            store_rows(graph, value)
        else:
            _store(graph, value, bits, block)
    write_graph(model, target, EXTERNAL_FROM_BYTES)
    return WeightOnlyResult(
        tuple(name for value, name in names.items() if value in products),
        tuple(name for value, name in names.items() if value in tables),
        shortest_names([path for value in left for path in candidates[value]], list(chain(*candidates.values()))),
        before,
        _bytes(graph),
    )


def _stays(value: ir.Value, paths: list[str], keep_fp32: Collection[str], smallest: int) -> bool:
    assert value.const_value is not None
    return value.const_value.size < smallest or any(is_under(path, keep_fp32) for path in paths)


def _constants(graph: ir.Graph) -> list[ir.Value]:
    return [value for value in graph.initializers.values() if value.const_value is not None]


def _multiplies(value: ir.Value) -> list[str]:
    """The paths of the products that a matrix is the right side of, where it is nothing else."""
    tensor = value.const_value
    assert tensor is not None
    uses = tuple(value.uses())
    fits = len(tensor.shape) == 2 and tensor.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16)
    if not fits or value.is_graph_output() or len({_transposed(node) for node, _ in uses}) != 1:
        return []
    if any(node.domain != "" or node.op_type not in ("MatMul", "Gemm") or index != 1 for node, index in uses):
        return []
    return [path_of(node) for node, _ in uses]


def _transposed(node: ir.Node) -> bool:
    """Whether the weight lies as [N, K]."""
    attribute = node.attributes.get("transB")
    return attribute is not None and bool(attribute.as_int())


def _fitting_block(weight: ir.Value, block: int) -> int:
    """The largest block, `block` halved so often, that divides the input channels; 0 for none."""
    assert weight.const_value is not None
    node, _ = next(iter(weight.uses()))
    channels = weight.const_value.numpy().shape[1 if _transposed(node) else 0]
    while block >= SMALLEST_BLOCK_CHANNELS and channels % block:
        block //= 2
    return block if block >= SMALLEST_BLOCK_CHANNELS else 0


def _store(graph: ir.Graph, weight: ir.Value, bits: int, block: int) -> None:
    """Replaces a weight in place by integers, scales and the node that multiplies them; a transposed one is turned."""
    tensor = weight.const_value
    assert tensor is not None and weight.name is not None
    users = [node for node, _ in weight.uses()]
    turned = _transposed(users[0])
    array = np.ascontiguousarray(tensor.numpy().T) if turned else tensor.numpy()
    if bits == 8:
        (values, scale), attributes = rounded_columns(array), {"axis": 1}
    else:
        fitting = _fitting_block(weight, block)
        (values, scale), attributes = rounded_blocks(array, fitting), {"axis": 0, "block_size": fitting}
        values = values.astype(ir.DataType.INT4.numpy())
    stored = add_initializer(graph, f"{weight.name}.int{bits}", values)
    inputs: list[ir.Value | None] = [stored, add_initializer(graph, f"{weight.name}.scale", scale)]
    if bits == 8:
        # Without VNNI, or told to go without, ONNX Runtime turns the bytes unsigned, and has a zero point for each
        # scale only where there was one.
        inputs.append(add_initializer(graph, f"{weight.name}.zero", np.zeros(scale.shape, np.int8)))
    spread = ir.node("DequantizeLinear", inputs, attributes, name=f"{weight.name}.spread")
    spread.metadata_props.update(users[0].metadata_props)
    (output,) = spread.outputs
    output.name, output.type, output.shape = spread.name, ir.TensorType(tensor.dtype), ir.Shape(array.shape)
    graph.insert_before(users[0], spread)
    for node in users:
        node.replace_input_with(1, output)
        if turned:
            node.attributes["transB"] = ir.AttrInt64("transB", 0)
    remove_initializer(graph, weight)


def _raise_opset(model: ir.Model, source: Path) -> None:
    """Declares opset 21 where every operator of the graph means in it what it means now."""
    version = model.opset_imports[""]
    if version >= OPSET_4_BITS:
        return
    used = {node.op_type for node in model.graph if node.domain == ""}
    changed = sorted(used - set(_unchanged(used, version)) - ONLY_MORE_TYPES)
    if changed:
        raise PlanError(
            f"{source}: 4 bits need opset {OPSET_4_BITS}, which changes {', '.join(changed)} from opset {version}; "
            "choose int8-weights"
        )
    model.opset_imports[""] = OPSET_4_BITS


def _unchanged(operators: Iterable[str], version: int) -> list[str]:
    def since(operator: str, opset: int) -> int:
        return onnx.defs.get_schema(operator, opset, "").since_version

    return [operator for operator in operators if since(operator, version) == since(operator, OPSET_4_BITS)]


def _bytes(graph: ir.Graph) -> int:
    return sum(value.const_value.nbytes for value in _constants(graph) if value.const_value is not None)
