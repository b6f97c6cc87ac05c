"""Weights rounded to fewer bits: to float16, to small integers with scales, and tables that are read by rows."""

from collections.abc import Callable, Iterator

import numpy as np
import onnx_ir as ir

from ..graphs.graph_io import add_initializer, remove_initializer

LARGEST_FP16 = 65504.0
"""The largest float16."""
INFINITY_FROM = 1e30
"""Finite numbers above this stand for infinity: attention masks are filled with the lowest float32."""
ROUNDING_LIMIT = 2.0**-10
"""Relative error of a rounded weight above which it stays in float32.

Rounding to eleven bits costs at most 2^-11 of each number and 2^-12.6 of a weight's norm. More than twice the first
means numbers past 65504, or so many below 6e-5 that the subnormals' fixed step shows.
"""
CHUNK_NUMBERS = 1 << 24
"""Numbers that are rounded at once, since a word embedding alone may be a gigabyte."""


def as_fp16(weight: np.ndarray) -> np.ndarray:
    """float16 of a weight; what stands for infinity becomes the largest float16, which no sum of masks turns to NaN."""
    half = np.empty(weight.shape, np.float16)
    for numbers, target in _chunks(weight, half):
        stands_in = np.isfinite(numbers) & (np.abs(numbers) > INFINITY_FROM)
        with np.errstate(over="ignore"):
            target[:] = np.where(stands_in, np.copysign(np.float32(LARGEST_FP16), numbers), numbers)
    return half


def rounding_error(weight: np.ndarray) -> float:
    """|as_fp16(weight) - weight| / |weight| over the numbers that are none for infinity; inf where one overflows."""
    error = norm = 0.0
    for (numbers,) in _chunks(weight):
        numbers = numbers[np.abs(numbers) <= INFINITY_FROM]
        with np.errstate(over="ignore"):
            half = numbers.astype(np.float16).astype(np.float32)
        error += float(np.square(half - numbers, dtype=np.float64).sum())
        norm += float(np.square(numbers, dtype=np.float64).sum())
    return float(np.sqrt(error / (norm or 1.0)))


def _chunks(*arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    flat = [array.reshape(-1) for array in arrays]
    for start in range(0, flat[0].size, CHUNK_NUMBERS):
        yield tuple(array[start : start + CHUNK_NUMBERS] for array in flat)


def fp16_tensor(tensor: ir.TensorProtocol, name: str) -> ir.LazyTensor:
    """A weight that is read and rounded when it is written, so that a file of any size passes through memory once."""
    return _lazy(tensor, name, ir.DataType.FLOAT16, as_fp16)


def fp16_emulated_tensor(tensor: ir.TensorProtocol, name: str) -> ir.LazyTensor:
    """The same weight in float32, at the values that float16 can hold."""
    return _lazy(tensor, name, ir.DataType.FLOAT, lambda weight: as_fp16(weight).astype(np.float32))


def _lazy(
    tensor: ir.TensorProtocol, name: str, kind: ir.DataType, change: Callable[[np.ndarray], np.ndarray]
) -> ir.LazyTensor:
    return ir.LazyTensor(
        lambda: ir.tensor(change(tensor.numpy()), name=name),
        dtype=kind,
        shape=ir.Shape(tensor.shape.numpy()),
        name=name,
    )


HALF, SINGLE = ir.DataType.FLOAT16, ir.DataType.FLOAT
LARGEST_INTEGER = {8: 127, 4: 7}
"""The largest integer of a weight, by bits. 8 bits are symmetric; 4 bits use -8 too, one of only 16 values."""
ROWS_AT_ONCE = 8192
"""A vocabulary's table is the largest constant there is: its float32 copies never exist whole."""
DIVISORS_4_BITS = (7, 7.5, 8, 8.5, 9, 10)
"""What a block's largest number may be divided by for its scale: clipping the largest is often worth a finer step.

Measured: taking the best by squared error brings the error of blocks of 128 from 0.117 to 0.102 on normal numbers,
where NNCF's signed scales reach 0.103."""


def rounded_columns(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """8 bits of a weight [K, N] that products have on their right: int8 [K, N], a scale for each output channel [N]."""
    values, scale = _rounded(weight[None], 8, LARGEST_INTEGER[8])
    return values[0], scale[0]


def rounded_rows(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """8 bits of a table [V, D] that is read by rows: int8 [V, D], and a scale for each row [V, 1]."""
    values, scale = np.empty(table.shape, np.int8), np.empty((len(table), 1), table.dtype)
    for start in range(0, len(table), ROWS_AT_ONCE):
        some = slice(start, start + ROWS_AT_ONCE)
        rounded, scale[some] = _rounded(table[some, :, None], 8, LARGEST_INTEGER[8])
        values[some] = rounded[:, :, 0]
    return values, scale


def rounded_blocks(weight: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """4 bits of a weight [K, N], `block` of its input channels at a time: int8 [K, N] of -8..7, scales [K / block, N].

    The scale of each block is the one of least squared error among those of DIVISORS_4_BITS.
    """
    blocks = weight.reshape(-1, block, weight.shape[1])
    values, scale = _rounded(blocks, 4, DIVISORS_4_BITS[0])
    least = _squared_error(blocks, values, scale)
    for divisor in DIVISORS_4_BITS[1:]:
        other_values, other_scale = _rounded(blocks, 4, divisor)
        error = _squared_error(blocks, other_values, other_scale)
        better = error < least
        np.copyto(values, other_values, where=better[:, None])
        np.copyto(scale, other_scale, where=better)
        np.copyto(least, error, where=better)
    return values.reshape(weight.shape), scale


def _rounded(groups: np.ndarray, bits: int, divisor: float) -> tuple[np.ndarray, np.ndarray]:
    """Groups along axis 1 of [A, G, B], rounded by the scale as it is stored; scales [A, B] have the groups' dtype."""
    scale = (np.abs(groups).max(axis=1).astype(np.float32) / divisor).astype(groups.dtype)
    scale[scale == 0] = 1
    ratio = groups.astype(np.float32) / scale[:, None].astype(np.float32)
    lowest = -LARGEST_INTEGER[bits] - (bits == 4)
    return np.clip(np.rint(ratio, out=ratio), lowest, LARGEST_INTEGER[bits]).astype(np.int8), scale


def _squared_error(blocks: np.ndarray, values: np.ndarray, scale: np.ndarray) -> np.ndarray:
    difference = values * scale[:, None].astype(np.float32) - blocks
    return np.einsum("abc,abc->ac", difference, difference)


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
    rows = add_initializer(graph, f"{table.name}.int8", values)
    scales = add_initializer(graph, f"{table.name}.scale", scale)
    for node, _ in tuple(table.uses()):
        _replace_gather(graph, node, rows, scales, tensor.dtype)
    remove_initializer(graph, table)


def _reads_rows(node: ir.Node, index: int) -> bool:
    axis = node.attributes.get("axis")
    return node.domain == "" and node.op_type == "Gather" and index == 0 and (axis is None or axis.as_int() == 0)


def _replace_gather(graph: ir.Graph, gather: ir.Node, rows: ir.Value, scales: ir.Value, dtype: ir.DataType) -> None:
    (output,) = gather.outputs
    name, ids = output.name, gather.inputs[1]
    row = _named_node("Gather", [rows, ids], f"{name}.rows", axis=0)
    scale = _named_node("Gather", [scales, ids], f"{name}.row_scales", axis=0)
    cast = _named_node("Cast", [row.outputs[0]], f"{name}.cast", to=dtype.value)
    scaled = _named_node("Mul", [cast.outputs[0], scale.outputs[0]], f"{name}.scaled")
    for node in (row, scale, cast, scaled):
        node.metadata_props.update(gather.metadata_props)
        graph.insert_before(gather, node)
    (product,) = scaled.outputs
    product.shape, product.type = output.shape, output.type
    output.replace_all_uses_with(product, replace_graph_outputs=True)
    graph.remove(gather, safe=True)
    product.name = name


def _named_node(operator: str, inputs: list[ir.Value | None], name: str, **attributes: int) -> ir.Node:
    node = ir.node(operator, inputs, attributes, name=name)
    node.outputs[0].name = name
    return node
