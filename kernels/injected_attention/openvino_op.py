"""The op for OpenVINO: its ONNX reader does not open a model-local function, so the node is built from its operators.

The same augmented values as in `onnx_function`, around OpenVINO's fused attention, which needs no padded queries.
"""

from collections.abc import Iterable

import numpy as np
from openvino import Node, Output, Type
from openvino import opset13 as ops
from openvino.frontend import NodeContext
from openvino.frontend.onnx import ConversionExtension

from ..domain import DOMAIN
from .op import NAME

_MARK = "x2i.injected_attention"
"""Where the number of heads stands on the node that gives the op's output."""


def extension() -> ConversionExtension:
    """What an openvino.Core must be given before it reads a graph that holds the op."""
    return ConversionExtension(NAME, DOMAIN, _convert)


def _convert(node: NodeContext) -> list[Output]:
    query, key, value, local_key, local_value, token_index, strength = (node.get_input(i) for i in range(7))
    heads = node.get_attribute("num_heads")
    q, k, v, kl, vl = (head_split(tensor, heads) for tensor in (query, key, value, local_key, local_value))
    scale = ops.convert_like(ops.constant(np.float32(node.get_attribute("scale"))), query)
    token = ops.reshape(token_index, whole_numbers(-1, 1, 1, 1), special_zero=False)
    attended, column = _attended(q, k, v, token, scale)
    mask = _mask(ops.convert(column, Type.f32), token)
    factor = ops.reshape(strength, whole_numbers(-1, 1, 1, 1), special_zero=False)
    # A token that no query sees at all would make the mask 0 / 0; at strength 0 nothing of it may come through.
    weight = ops.select(ops.equal(factor, np.float32(0)), factor, ops.multiply(factor, mask))
    local = ops.scaled_dot_product_attention(q, kl, vl, scale=scale)
    injected = ops.multiply(ops.convert_like(weight, local), local)
    out = ops.transpose(ops.add(attended, injected), whole_numbers(0, 2, 1, 3))
    merged = ops.reshape(out, whole_numbers(0, 0, -1), special_zero=True)
    merged.get_rt_info()[_MARK] = str(heads)
    return merged.outputs()


Built = tuple[tuple[Output, ...], int, float, Output]
"""One operation as `_convert` has built it: its seven inputs in the op's order, heads, scale, and what it gives."""


def find_injected(operations: Iterable[Node]) -> list[Built]:
    """The operations among a model's nodes, so that another may take the place of what was built for them."""
    return [_built(node) for node in operations if _MARK in node.get_rt_info()]


def _built(merged: Node) -> Built:
    """Goes back the way that `_convert` went."""
    added = _before(_before(merged))
    wide, (weight, local) = _before(_before(added)), (_before(_before(added, 1), i) for i in (0, 1))
    chosen = weight if weight.get_type_name() == "Select" else _before(weight)
    mask = _before(_before(chosen, 2), 1)
    query, key, local_key, local_value = (
        _unsplit(node) for node in (_before(wide), _before(wide, 1), _before(local, 1), _before(local, 2))
    )
    value = _unsplit(_before(_before(wide, 2)))
    token, strength = _before(_before(mask)).input_value(0), _before(chosen, 1).input_value(0)
    scale = _before(wide, 4)
    scale = scale if scale.get_type_name() == "Constant" else _before(scale)
    inputs = (query, key, value, local_key, local_value, token, strength)
    return inputs, int(merged.get_rt_info()[_MARK].value), float(scale.data.reshape(-1)[0]), merged.output(0)


def _before(node: Node, number: int = 0) -> Node:
    return node.input_value(number).get_node()


def _unsplit(heads: Node) -> Output:
    """What `head_split` was given."""
    return _before(heads).input_value(0)


def _attended(q: Node, k: Node, v: Node, token: Node, scale: Node) -> tuple[Node, Node]:
    """Attention [B, heads, N, D], and the probabilities of each sample's token [B, heads, N, 1].

    The values' last column is one-hot at the token: the product that gives the attention gives its share as well.
    """
    tokens = ops.gather(ops.shape_of(k), whole_numbers(2), np.int64(0))
    positions = ops.range(np.int64(0), ops.squeeze(tokens, np.int64(0)), np.int64(1), Type.i64)
    one_hot = ops.equal(ops.reshape(positions, whole_numbers(1, 1, -1, 1), special_zero=False), token)
    first = ops.slice(v, whole_numbers(0), whole_numbers(1), whole_numbers(1), whole_numbers(3))
    column = ops.broadcast(ops.convert_like(one_hot, v), ops.shape_of(first))
    wide = ops.scaled_dot_product_attention(q, k, ops.concat([v, column], 3), scale=scale)
    attended = ops.slice(wide, whole_numbers(0), whole_numbers(-1), whole_numbers(1), whole_numbers(3))
    return attended, ops.slice(
        wide, whole_numbers(-1), whole_numbers(np.iinfo(np.int64).max), whole_numbers(1), whole_numbers(3)
    )


def _mask(column: Node, token: Node) -> Node:
    """A token's probabilities over their maximum in the sample; 1 for an index below 0."""
    share = ops.divide(column, ops.reduce_max(column, whole_numbers(1, 2, 3), keep_dims=True))
    return ops.select(ops.less(token, np.int64(0)), np.float32(1), share)


def head_split(tokens: Output, heads: int) -> Node:
    """[B, N, C] to [B, heads, N, C / heads]."""
    split = ops.reshape(tokens, whole_numbers(0, 0, heads, -1), special_zero=True)
    return ops.transpose(split, whole_numbers(0, 2, 1, 3))


def whole_numbers(*numbers: int) -> np.ndarray:
    """A constant of sizes, axes or an order of axes."""
    return np.array(numbers, np.int64)
